# Toolchain: compile for aarch64 Linux on another machine and run the results under qemu-user.
# ARM64_SYSROOT is the folder that scripts/sysroot-arm64 prints.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
find_program(qemu NAMES qemu-aarch64 qemu-aarch64-static REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${qemu} -L /usr/aarch64-linux-gnu)
set(ENV{PKG_CONFIG_LIBDIR} $ENV{ARM64_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} $ENV{ARM64_SYSROOT})
set(CMAKE_BUILD_RPATH $ENV{ARM64_SYSROOT}/usr/lib/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH $ENV{ARM64_SYSROOT} /usr/aarch64-linux-gnu)
set(CMAKE_C_FLAGS_INIT "-isystem $ENV{ARM64_SYSROOT}/usr/include/aarch64-linux-gnu")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,$ENV{ARM64_SYSROOT}/usr/lib/aarch64-linux-gnu")
