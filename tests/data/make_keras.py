"""Writes keras.onnx and keras.npz: a small Keras network, and its Grad-CAM as TensorFlow computes it.

Run it where ``pip install tensorflow-cpu tf2onnx`` was done: ``python tests/data/make_keras.py``.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf2onnx

FOLDER = Path(__file__).parent
SIZE = 48


def build() -> keras.Model:
    """Pixels of 0 to 255 in, scores of four classes out; every convolution pads unevenly."""
    layers = keras.layers
    image = layers.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(image)
    for filters, activation in ((8, "relu6"), (12, "swish"), (16, "relu")):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation(activation)(x)
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.LeakyReLU(name=f"features{filters}")(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(4)(x))


def main() -> None:
    keras.utils.set_random_seed(0)
    model = build()
    rng = np.random.default_rng(0)
    for layer in model.layers:  # norms as after training
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([np.abs(rng.normal(1, 0.2, w.shape)) for w in layer.get_weights()])
    images = rng.integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)
    inner = keras.Model(model.input, [model.get_layer("features16").output, model.output])
    with tf.GradientTape() as tape:
        activations, scores = inner(images, training=False)
        tape.watch(activations)
        rest = model.layers[model.layers.index(model.get_layer("features16")) + 1 :]
        value = activations
        for layer in rest:
            value = layer(value, training=False)
        best = tf.reduce_sum(tf.reduce_max(value, axis=1))
    weights = tf.reduce_mean(tape.gradient(best, activations), axis=(1, 2), keepdims=True)
    cam = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1))
    signature = [tf.TensorSpec([None, SIZE, SIZE, 3], tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, input_signature=signature, opset=15, output_path=str(FOLDER / "keras.onnx"))
    np.savez_compressed(FOLDER / "keras.npz", images=images.astype(np.uint8), scores=scores.numpy(), cam=cam.numpy())


if __name__ == "__main__":
    main()
