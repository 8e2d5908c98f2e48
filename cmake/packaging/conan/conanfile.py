# SPDX-License-Identifier: MIT
# Conan 2.  What it packages is what cmake --install leaves; find_package(lowbit) reads the package's own CMake files.
from os.path import join

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, get, rmdir


class LowbitConan(ConanFile):
    name = "lowbit"
    description = "Quantized tensors and fused dequantize-GEMM kernels for the CPU, header-only"
    license = "MIT"
    topics = ("quantization", "nf4", "int8", "gemm", "header-only")
    package_type = "static-library"  # with_c; without it there are headers alone
    settings = "os", "arch", "compiler", "build_type"
    options = {"with_c": [True, False], "with_eigen": [True, False], "with_gpt2": [True, False], "with_io": [True, False], "fPIC": [True, False]}
    default_options = {"with_c": False, "with_eigen": False, "with_gpt2": False, "with_io": True, "fPIC": True}

    def config_options(self):
        if self.settings.os == "Windows":
            del self.options.fPIC

    def _components(self):
        return [name for name in ("c", "eigen", "gpt2", "io") if self.options.get_safe(f"with_{name}")]

    def layout(self):
        cmake_layout(self, src_folder="src")

    def requirements(self):
        components = self._components()
        self.requires("xsimd/13.0.0", transitive_headers=True)
        if "eigen" in components:
            self.requires("eigen/3.4.0", transitive_headers=True)
        if {"io", "gpt2", "c"} & set(components):
            self.requires("nlohmann_json/3.11.3", transitive_headers=True)
        if "gpt2" in components:
            self.requires("utf8proc/2.9.0", transitive_headers=True, transitive_libs=True)

    def package_id(self):
        if not self.options.with_c:
            self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def source(self):
        get(self, **self.conan_data["sources"][self.version], strip_root=True)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        for part in ("TESTS", "EXAMPLES", "BENCH"):
            toolchain.cache_variables[f"LOWBIT_BUILD_{part}"] = False
        toolchain.cache_variables["LOWBIT_COMPONENTS"] = ";".join(self._components())
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, join(self.package_folder, "licenses"))
        rmdir(self, join(self.package_folder, "share", "doc"))

    def package_info(self):
        # lowbit::kernels is compiled in the project that uses it, which a generated file could not say.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [join("share", "cmake", "lowbit")]
        self.cpp_info.set_property("pkg_config_name", "none")
        if self.options.with_c:
            self.cpp_info.libs = ["lowbit_c"]
