# The target explainable_torch, the libraries of torch. CMake finds torch by one of these:
#   -DCMAKE_PREFIX_PATH=/path/to/libtorch   the official archive, or any other install with a TorchConfig.cmake
#   no option                               the wheel that python3 imports (-DPython3_EXECUTABLE=... for another one);
#                                           its libraries are linked directly, so that no CUDA toolkit is needed
# A program that links the library must find the torch that the library was built with.
if(TARGET explainable_torch)
  return()
endif()
if(NOT TORCH_WHEEL)
  find_package(Torch QUIET)
endif()
if(Torch_CONSIDERED_CONFIGS AND NOT Torch_FOUND)
  message(FATAL_ERROR "torch cannot be used as ${Torch_CONSIDERED_CONFIGS} describes it: ${Torch_NOT_FOUND_MESSAGE}")
elseif(Torch_FOUND)
  message(STATUS "torch: ${Torch_DIR}")
  add_library(explainable_torch INTERFACE IMPORTED GLOBAL)
  target_link_libraries(explainable_torch INTERFACE ${TORCH_LIBRARIES})
else()
  if(NOT TORCH_WHEEL)
    find_package(Python3 REQUIRED COMPONENTS Interpreter)
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c
        "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE TORCH_WHEEL OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
    if(failed)
      message(FATAL_ERROR "${Python3_EXECUTABLE} has no torch. Unpack the libtorch archive and pass "
                          "-DCMAKE_PREFIX_PATH=/path/to/libtorch, or pip install torch.")
    endif()
  endif()
  message(STATUS "torch: ${TORCH_WHEEL}")
  add_library(explainable_torch INTERFACE IMPORTED GLOBAL)
  target_include_directories(explainable_torch SYSTEM INTERFACE
    ${TORCH_WHEEL}/include ${TORCH_WHEEL}/include/torch/csrc/api/include)
  target_link_libraries(explainable_torch INTERFACE ${TORCH_WHEEL}/lib/libtorch_cpu.so ${TORCH_WHEEL}/lib/libc10.so)
  # libtorch_cpu registers its operators and finds its CUDA libraries when it is loaded. An rpath of the old kind also
  # serves libraries that are loaded later: AOTInductor packages look for libtorch.so.
  target_link_options(explainable_torch INTERFACE
    LINKER:--no-as-needed LINKER:--allow-shlib-undefined LINKER:--disable-new-dtags)
endif()
