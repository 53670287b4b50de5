# The version is written once, in project(); the program knows it by this definition.
add_compile_definitions(MLX_HUB_VERSION="${PROJECT_VERSION}")
