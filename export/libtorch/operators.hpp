// The operators that a TorchScript artifact may call. Written by tests/support/operators_header.py from the
// table of the library, explainable_model/exporters/guard/operators.py: change that one.
#pragma once

#include <set>
#include <string>

namespace explainable {

// compute tensors of their arguments
inline const std::set<std::string> kOperators = {
    "__and__", "__or__", "__xor__", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_assert_scalar",
    "_assert_tensor_metadata", "_fft_c2c", "_fft_c2r", "_fft_r2c", "_log_softmax",
    "_native_batch_norm_legit_no_training", "_softmax", "_to_copy", "_unsafe_view", "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    "abs", "absolute", "acos", "acosh", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "add", "addbmm", "addcdiv", "addcmul",
    "addmm", "addmv", "addr", "alias", "all", "alpha_dropout", "amax", "amin", "aminmax", "angle", "any", "arange",
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "asin",
    "asinh", "atan", "atan2", "atanh", "avg_pool1d", "avg_pool2d", "avg_pool3d", "baddbmm", "batch_norm", "bilinear",
    "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "block_diag", "bmm", "broadcast_to", "bucketize", "cat", "cdist", "ceil", "celu", "channel_shuffle", "chunk",
    "clamp", "clamp_max", "clamp_min", "clip", "clone", "col2im", "complex", "concat", "concatenate", "conj",
    "constant_pad_nd", "contiguous", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "convolution", "copy", "copysign", "cos", "cosh", "cosine_similarity", "count_nonzero",
    "cross", "cummax", "cummin", "cumprod", "cumsum", "deg2rad", "detach", "diag_embed", "diagonal", "diff",
    "digamma", "div", "divide", "dot", "dropout", "einsum", "elu", "embedding", "empty", "empty_like", "eq", "erf",
    "erfc", "erfinv", "exp", "exp2", "expand", "expand_as", "expm1", "eye", "fake_quantize_per_channel_affine",
    "fake_quantize_per_channel_affine_cachemask", "fake_quantize_per_tensor_affine",
    "fake_quantize_per_tensor_affine_cachemask", "feature_alpha_dropout", "feature_dropout", "fft_fft", "fft_fft2",
    "fft_fftfreq", "fft_fftn", "fft_fftshift", "fft_ifft", "fft_ifft2", "fft_ifftn", "fft_ifftshift", "fft_irfft",
    "fft_irfft2", "fft_irfftn", "fft_rfft", "fft_rfft2", "fft_rfftfreq", "fft_rfftn", "fill", "flatten", "flip",
    "fliplr", "flipud", "float_power", "floor", "floor_divide", "fmax", "fmin", "fmod", "frac", "full", "full_like",
    "gather", "ge", "gelu", "glu", "greater", "greater_equal", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d",
    "group_norm", "gru", "gt", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "heaviside", "hstack", "hypot",
    "im2col", "imag", "index", "index_add", "index_copy", "index_fill", "index_put", "index_select", "inner",
    "instance_norm", "isfinite", "isinf", "isnan", "item", "kthvalue", "layer_norm", "le", "leaky_relu", "lerp",
    "less", "less_equal", "lgamma", "lift_fresh_copy", "linalg_cross", "linalg_norm", "linalg_vecdot",
    "linalg_vector_norm", "linear", "linspace", "log", "log10", "log1p", "log2", "log_sigmoid", "log_softmax",
    "logaddexp", "logaddexp2", "logcumsumexp", "logical_and", "logical_not", "logical_or", "logical_xor", "logit",
    "logspace", "logsumexp", "lstm", "lt", "masked_fill", "masked_scatter", "matmul", "max", "max_pool1d",
    "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices",
    "max_unpool2d", "maximum", "mean", "median", "meshgrid", "min", "minimum", "mish", "mm", "moveaxis", "movedim",
    "mul", "multiply", "mv", "nan_to_num", "nanmean", "nansum", "narrow", "native_group_norm", "native_layer_norm",
    "ne", "neg", "negative", "new_empty", "new_full", "new_ones", "new_zeros", "norm", "not_equal", "numel",
    "one_hot", "ones", "ones_like", "outer", "pad", "pairwise_distance", "permute", "pixel_shuffle",
    "pixel_unshuffle", "polar", "pow", "prelu", "prod", "rad2deg", "rand_like", "randn_like", "ravel", "real",
    "reciprocal", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "relu", "relu6", "remainder", "repeat",
    "repeat_interleave", "replication_pad1d", "replication_pad2d", "replication_pad3d", "reshape", "reshape_as",
    "rms_norm", "roll", "rot90", "round", "rrelu", "rsqrt", "rsub", "scalar_tensor", "scaled_dot_product_attention",
    "scatter", "scatter_add", "scatter_reduce", "searchsorted", "select", "select_scatter", "selu", "sgn", "sigmoid",
    "sign", "silu", "sin", "sinc", "sinh", "size", "slice", "slice_scatter", "softmax", "softplus", "softshrink",
    "sort", "split", "split_with_sizes", "sqrt", "square", "squeeze", "stack", "std", "std_mean", "sub", "subtract",
    "sum", "sum_to_size", "swapaxes", "swapdims", "sym_constrain_range", "sym_constrain_range_for_size", "sym_numel",
    "sym_size", "sym_storage_offset", "sym_stride", "t", "take_along_dim", "tan", "tanh", "tensor_split", "tensordot",
    "threshold", "tile", "to", "topk", "transpose", "tril", "tril_indices", "triu", "triu_indices", "true_divide",
    "trunc", "type_as", "unbind", "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "unsqueeze",
    "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_nearest3d", "upsample_trilinear3d", "var", "var_mean", "view", "view_as", "view_as_complex",
    "view_as_real", "vstack", "where", "xlogy", "zeros", "zeros_like"};

// may write over their first argument, under their name with _ at the end
inline const std::set<std::string> kInPlaceOperators = {
    "__and__", "__or__", "__xor__", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_assert_scalar",
    "_assert_tensor_metadata", "_fft_c2c", "_fft_c2r", "_fft_r2c", "_log_softmax",
    "_native_batch_norm_legit_no_training", "_softmax", "_to_copy", "_unsafe_view", "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    "abs", "absolute", "acos", "acosh", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "add", "addbmm", "addcdiv", "addcmul",
    "addmm", "addmv", "addr", "all", "alpha_dropout", "amax", "amin", "aminmax", "angle", "any", "arange", "arccos",
    "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "argmax", "argmin", "argsort", "asin", "asinh",
    "atan", "atan2", "atanh", "avg_pool1d", "avg_pool2d", "avg_pool3d", "baddbmm", "batch_norm", "bilinear",
    "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "block_diag", "bmm", "broadcast_to", "bucketize", "cat", "cdist", "ceil", "celu", "channel_shuffle", "chunk",
    "clamp", "clamp_max", "clamp_min", "clip", "clone", "col2im", "complex", "concat", "concatenate", "conj",
    "constant_pad_nd", "contiguous", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "convolution", "copy", "copysign", "cos", "cosh", "cosine_similarity", "count_nonzero",
    "cross", "cummax", "cummin", "cumprod", "cumsum", "deg2rad", "diag_embed", "diagonal", "diff", "digamma", "div",
    "divide", "dot", "dropout", "einsum", "elu", "embedding", "empty", "empty_like", "eq", "erf", "erfc", "erfinv",
    "exp", "exp2", "expm1", "eye", "fake_quantize_per_channel_affine", "fake_quantize_per_channel_affine_cachemask",
    "fake_quantize_per_tensor_affine", "fake_quantize_per_tensor_affine_cachemask", "feature_alpha_dropout",
    "feature_dropout", "fft_fft", "fft_fft2", "fft_fftfreq", "fft_fftn", "fft_fftshift", "fft_ifft", "fft_ifft2",
    "fft_ifftn", "fft_ifftshift", "fft_irfft", "fft_irfft2", "fft_irfftn", "fft_rfft", "fft_rfft2", "fft_rfftfreq",
    "fft_rfftn", "fill", "flatten", "flip", "fliplr", "flipud", "float_power", "floor", "floor_divide", "fmax",
    "fmin", "fmod", "frac", "full", "full_like", "gather", "ge", "gelu", "glu", "greater", "greater_equal",
    "grid_sampler", "grid_sampler_2d", "grid_sampler_3d", "group_norm", "gru", "gt", "hardshrink", "hardsigmoid",
    "hardswish", "hardtanh", "heaviside", "hstack", "hypot", "im2col", "index", "index_add", "index_copy",
    "index_fill", "index_put", "index_select", "inner", "instance_norm", "isfinite", "isinf", "isnan", "item",
    "kthvalue", "layer_norm", "le", "leaky_relu", "lerp", "less", "less_equal", "lgamma", "lift_fresh_copy",
    "linalg_cross", "linalg_norm", "linalg_vecdot", "linalg_vector_norm", "linear", "linspace", "log", "log10",
    "log1p", "log2", "log_sigmoid", "log_softmax", "logaddexp", "logaddexp2", "logcumsumexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logit", "logspace", "logsumexp", "lstm", "lt", "masked_fill",
    "masked_scatter", "matmul", "max", "max_pool1d", "max_pool1d_with_indices", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices", "max_unpool2d", "maximum", "mean", "median",
    "meshgrid", "min", "minimum", "mish", "mm", "moveaxis", "movedim", "mul", "multiply", "mv", "nan_to_num",
    "nanmean", "nansum", "narrow", "native_group_norm", "native_layer_norm", "ne", "neg", "negative", "new_empty",
    "new_full", "new_ones", "new_zeros", "norm", "not_equal", "numel", "one_hot", "ones", "ones_like", "outer", "pad",
    "pairwise_distance", "permute", "pixel_shuffle", "pixel_unshuffle", "polar", "pow", "prelu", "prod", "rad2deg",
    "rand_like", "randn_like", "ravel", "reciprocal", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "relu", "relu6", "remainder", "repeat", "repeat_interleave", "replication_pad1d", "replication_pad2d",
    "replication_pad3d", "reshape", "reshape_as", "rms_norm", "roll", "rot90", "round", "rrelu", "rsqrt", "rsub",
    "scalar_tensor", "scaled_dot_product_attention", "scatter", "scatter_add", "scatter_reduce", "searchsorted",
    "select", "select_scatter", "selu", "sgn", "sigmoid", "sign", "silu", "sin", "sinc", "sinh", "slice",
    "slice_scatter", "softmax", "softplus", "softshrink", "sort", "split", "split_with_sizes", "sqrt", "square",
    "squeeze", "stack", "std", "std_mean", "sub", "subtract", "sum", "sum_to_size", "swapaxes", "swapdims",
    "sym_constrain_range", "sym_constrain_range_for_size", "sym_numel", "sym_size", "sym_storage_offset",
    "sym_stride", "take_along_dim", "tan", "tanh", "tensor_split", "tensordot", "threshold", "tile", "topk",
    "transpose", "tril", "tril_indices", "triu", "triu_indices", "true_divide", "trunc", "type_as", "unbind",
    "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "unsqueeze", "upsample_bicubic2d", "upsample_bilinear2d",
    "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_trilinear3d",
    "var", "var_mean", "vstack", "where", "xlogy", "zeros", "zeros_like"};

// work on numbers and lists
inline const std::set<std::string> kScriptOperators = {
    "__contains__", "__getitem__", "__is__", "__isnot__", "__not__", "ceil", "dim", "floordiv", "format", "item",
    "len", "list"};

// TorchScript's own, in the namespace prim
inline const std::set<std::string> kPrimOperators = {
    "NumToTensor", "RaiseException", "device", "dtype", "layout", "max", "min"};

}  // namespace explainable
