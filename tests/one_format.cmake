# SPDX-License-Identifier: MIT
# Whether an object holds the products of its own kind of weights and not those of the others: what a header-only file takes to compile.
# cmake -D NM= -D OBJECT= -D HAS=function -D LACKS=function;function -P one_format.cmake
execute_process(COMMAND "${NM}" --defined-only "${OBJECT}" OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
if(NOT symbols MATCHES "${HAS}")
  message(FATAL_ERROR "${OBJECT} lacks ${HAS}")
endif()
foreach(function IN LISTS LACKS)
  if(symbols MATCHES "${function}")
    message(FATAL_ERROR "${OBJECT} holds ${function}")
  endif()
endforeach()
