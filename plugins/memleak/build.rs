fn main() {
    plugin_bpf_build::skeletons();
    plugin_bpf_build::test_program("tests/target.c", "target", &["-fno-builtin"]);
    let flags = ["-fno-builtin", "-static", "-DSTATIC"];
    plugin_bpf_build::test_program("tests/target.c", "target_static", &flags);
    let flags = ["-fno-builtin", "-shared", "-fPIC"];
    plugin_bpf_build::test_program("tests/prefixed.c", "prefixed.so", &flags);
}
