# The version is written once, in project(); the program knows it by this definition.
add_compile_definitions(MLX_HUB_VERSION="${PROJECT_VERSION}")

# The revision of the source goes into manifests. A commit configures again; outside of a checkout the
# version has to do. Only the files that write it are compiled with it.
set(revision ${PROJECT_VERSION})
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} describe --always --dirty --abbrev=12
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE described RESULT_VARIABLE failed
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${GIT} rev-parse --git-path logs/HEAD
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE head_log
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT failed AND described)
    set(revision ${described})
    get_filename_component(head_log ${head_log} ABSOLUTE BASE_DIR ${PROJECT_SOURCE_DIR})
    if(EXISTS ${head_log})
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${head_log})
    endif()
  endif()
endif()
set_source_files_properties(src/worker/job_train.c src/worker/job_reproduce.c
  PROPERTIES COMPILE_DEFINITIONS MLX_HUB_REVISION="${revision}")
