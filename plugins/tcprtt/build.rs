fn main() {
    plugin_bpf_build::skeletons();
}
