# onnxc for CMake: models become sources of a target, compiled again when they change.
#
#   cmake -S . -B build -Donnxc_DIR="$(onnxc cmake-dir)"
#
#   find_package(onnxc REQUIRED)
#   onnxc_add_model(app MODEL kws.onnx TARGET c:cortex-m4 MAX_RAM 64K MAX_FLASH 256K BIND batch=1)
#
# onnxc_add_model(<target> MODEL <file>
#   [TARGET <target string>]     what to compile for; c if it is not given
#   [NAME <name>]                prefix of the functions and name of the header; the model's file name if it is not given
#   [MAX_RAM <size>] [MAX_FLASH <size>]
#   [BIND <name>=<n>...] [MAX <name>=<n>...]
#   [QUANTIZE <data.npz>]        quantize to 8 bits first, with this calibration data
#   [QUANTIZE_OPTIONS <option>...]   options of onnxc quantize, such as --integer-io
#   [SELF_TEST [<data.npz>]]     add <name>_selftest.c, on random inputs if no data is given
#   [OPTIONS <option>...])       further options of onnxc compile
#
# The sources are added to the target, so that they are compiled with its flags; the header is found by its sources.

cmake_policy(VERSION 3.20...3.31)

if(CMAKE_VERSION VERSION_LESS 3.20)
  set(onnxc_FOUND FALSE)
  set(onnxc_NOT_FOUND_MESSAGE "onnxc needs CMake 3.20 or newer")
  return()
endif()

# Beside this package in a virtual environment (bin or Scripts), or on the path.
find_program(ONNXC_EXECUTABLE onnxc
  HINTS "${CMAKE_CURRENT_LIST_DIR}/../../../../../../bin" "${CMAKE_CURRENT_LIST_DIR}/../../../../../Scripts"
  DOC "The onnxc command")
if(NOT ONNXC_EXECUTABLE)
  set(onnxc_FOUND FALSE)
  set(onnxc_NOT_FOUND_MESSAGE "the command onnxc is not on the path; set ONNXC_EXECUTABLE")
  return()
endif()
set(ONNXC_CONFIG_FILE "${CMAKE_CURRENT_LIST_FILE}" CACHE INTERNAL "A file that is renewed with onnxc")

# The prefix that onnxc makes of a name: lower-case letters, digits and single underscores, a letter first.
function(_onnxc_clean name result)
  string(REGEX REPLACE "[^A-Za-z0-9]+" "_" name "${name}")
  string(REGEX REPLACE "^_|_$" "" name "${name}")
  string(SUBSTRING "${name}" 0 32 name)
  string(REGEX REPLACE "_$" "" name "${name}")
  if(NOT name MATCHES "^[A-Za-z]")
    set(name "x${name}")
  endif()
  string(TOLOWER "${name}" name)
  if(name MATCHES "^(arm_acle|arm_mve|arm_neon|assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|malloc|math|memory|pthread|sched|setjmp|signal|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|tgmath|threads|time|uchar|unistd|wchar|wctype)$")
    set(name "${name}_model")
  endif()
  set(${result} "${name}" PARENT_SCOPE)
endfunction()

function(onnxc_add_model target)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "MODEL;TARGET;NAME;MAX_RAM;MAX_FLASH;QUANTIZE" "BIND;MAX;OPTIONS;SELF_TEST;QUANTIZE_OPTIONS")
  if(NOT ARG_MODEL)
    message(FATAL_ERROR "onnxc_add_model(${target}): MODEL is missing")
  endif()
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "onnxc_add_model(${target}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT ARG_TARGET)
    set(ARG_TARGET c)
  endif()
  if(NOT ARG_TARGET MATCHES "^c(:|$)")
    message(FATAL_ERROR "onnxc_add_model(${target}): TARGET is ${ARG_TARGET}, only c and c:... make sources")
  endif()
  get_filename_component(model "${ARG_MODEL}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  if(NOT ARG_NAME)
    get_filename_component(ARG_NAME "${model}" NAME_WLE)
  endif()
  _onnxc_clean("${ARG_NAME}" name)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/onnxc/${name}")

  set(options --target "${ARG_TARGET}" --name "${name}" ${ARG_OPTIONS})
  foreach(limit RAM FLASH)
    if(ARG_MAX_${limit})
      string(TOLOWER "${limit}" word)
      list(APPEND options "--max-${word}" "${ARG_MAX_${limit}}")
    endif()
  endforeach()
  set(binds "")
  foreach(extent ${ARG_BIND})
    list(APPEND binds --bind "${extent}")
  endforeach()
  if(NOT ARG_QUANTIZE)
    list(APPEND options ${binds})
  endif()
  foreach(extent ${ARG_MAX})
    list(APPEND options --max "${extent}")
  endforeach()

  set(sources "${folder}/${name}.c")
  set(headers "${folder}/${name}.h")
  if(ARG_TARGET MATCHES "separate-weights")
    list(APPEND sources "${folder}/${name}_weights.c")
  endif()
  if(DEFINED ARG_SELF_TEST OR "SELF_TEST" IN_LIST ARG_KEYWORDS_MISSING_VALUES)
    list(APPEND sources "${folder}/${name}_selftest.c")
    list(APPEND headers "${folder}/${name}_selftest.h")
    if(ARG_SELF_TEST)
      get_filename_component(data "${ARG_SELF_TEST}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
      list(APPEND options "--self-test=${data}")
    else()
      list(APPEND options --self-test)
    endif()
  endif()

  file(MAKE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/onnxc")
  if(ARG_QUANTIZE)
    get_filename_component(data "${ARG_QUANTIZE}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    set(quantized "${folder}.int8.onnx")
    add_custom_command(
      OUTPUT "${quantized}"
      COMMAND "${ONNXC_EXECUTABLE}" quantize "${model}" --calibration "${data}" ${ARG_QUANTIZE_OPTIONS} ${binds} -o "${quantized}"
      DEPENDS "${model}" "${data}" "${ONNXC_CONFIG_FILE}"
      COMMENT "onnxc: quantizing ${ARG_MODEL}"
      VERBATIM)
    set(model "${quantized}")
  endif()
  add_custom_command(
    OUTPUT "${folder}/record.json" ${sources} ${headers}
    COMMAND "${ONNXC_EXECUTABLE}" compile "${model}" ${options} -o "${folder}" --depfile "${folder}.d"
    DEPENDS "${model}" "${ONNXC_CONFIG_FILE}"
    DEPFILE "${folder}.d"
    COMMENT "onnxc: compiling ${ARG_MODEL} for ${ARG_TARGET}"
    VERBATIM)
  target_sources(${target} PRIVATE ${sources} ${headers})
  target_include_directories(${target} PRIVATE "${folder}")
  get_target_property(kind ${target} TYPE)
  if(NOT MSVC AND NOT DEFINED ZEPHYR_BASE AND NOT kind STREQUAL "OBJECT_LIBRARY")
    target_link_libraries(${target} PRIVATE m)
  endif()
endfunction()
