# The target explainable_onnxruntime: OpenSSL's hashes, and the library of ONNX Runtime. CMake finds it by one of these:
#   -DCMAKE_PREFIX_PATH=/path/to/onnxruntime  the official archive; not needed for a system-wide install
#                                             (Debian 13, Ubuntu 25.04: libonnxruntime-dev)
#   no option                                 the library of the wheel that python3 imports (-DPython3_EXECUTABLE=... for
#                                             another one). A wheel has no headers, which the kit itself needs:
#                                             -DONNXRUNTIME_INCLUDE_DIR=/path/to/headers, from headers.sh
if(TARGET explainable_onnxruntime)
  return()
endif()
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_library(ONNXRUNTIME_LIBRARY onnxruntime HINTS ${CMAKE_CURRENT_LIST_DIR}/../..)  # beside the installed package
set(library ${ONNXRUNTIME_LIBRARY})
if(NOT library)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} -c
      "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])"
    OUTPUT_VARIABLE wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  file(GLOB wheel_library ${wheel}/capi/libonnxruntime.so.*)
  if(NOT wheel OR NOT wheel_library)
    message(FATAL_ERROR "There is no libonnxruntime, and ${Python3_EXECUTABLE} has no onnxruntime. Unpack the official "
                        "archive and pass -DCMAKE_PREFIX_PATH=/path/to/onnxruntime, or pip install onnxruntime.")
  endif()
  # The wheel names the file by the full version; linkers look for no version, and programs for the major one.
  set(ONNXRUNTIME_LINKS ${CMAKE_CURRENT_BINARY_DIR}/libonnxruntime.so ${CMAKE_CURRENT_BINARY_DIR}/libonnxruntime.so.1)
  foreach(link ${ONNXRUNTIME_LINKS})
    file(CREATE_LINK ${wheel_library} ${link} SYMBOLIC)
  endforeach()
  set(library ${CMAKE_CURRENT_BINARY_DIR}/libonnxruntime.so)
endif()
message(STATUS "onnxruntime: ${library}")
add_library(explainable_onnxruntime INTERFACE IMPORTED GLOBAL)
target_link_libraries(explainable_onnxruntime INTERFACE ${library} OpenSSL::Crypto)
