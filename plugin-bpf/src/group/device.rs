//! Queues of one device.

/// The name without the number of a queue: `eth0-TxRx` of `eth0-TxRx-3`, `nvme0` of `nvme0q12`,
/// `mlx5_comp@pci:0000:3b:00.0` of `mlx5_comp7@pci:0000:3b:00.0`.
#[must_use]
pub fn device(name: &str) -> String {
    let (name, place) = name.split_at(name.find('@').unwrap_or(name.len()));
    let device = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if device.len() == name.len() {
        return format!("{name}{place}");
    }
    let bare = device.trim_end_matches(['-', '.', '_', ':', ' ']);
    let is_address = device.ends_with('.') && bare.rsplit(':').next().is_some_and(is_hex_pair);
    let queue = bare.strip_suffix('q').filter(|rest| rest.ends_with(|c: char| c.is_ascii_digit()));
    let is_numbered = !place.is_empty() || device.ends_with("-msix");
    match queue {
        _ if bare.is_empty() || is_address => format!("{name}{place}"),
        Some(device) => format!("{device}{place}"),
        None if bare.len() < device.len() || is_numbered => format!("{bare}{place}"),
        None => format!("{name}{place}"),
    }
}

/// The device in a PCI address, as `1f` in `0000:00:1f.2`.
fn is_hex_pair(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_a_device_have_one_name() {
        for (name, device_name) in [
            ("virtio3-input.0", "virtio3-input"),
            ("virtio1-req.11", "virtio1-req"),
            ("eth0-TxRx-3", "eth0-TxRx"),
            ("ens5-Tx-Rx-0", "ens5-Tx-Rx"),
            ("vmxnet3-rxtx-7", "vmxnet3-rxtx"),
            ("nvme0q12", "nvme0"),
            ("nvme10q0", "nvme10"),
            ("mlx5_comp12@pci:0000:3b:00.0", "mlx5_comp@pci:0000:3b:00.0"),
            ("mlx4-3@0000:81:00.0", "mlx4@0000:81:00.0"),
            ("megasas0-msix12", "megasas0-msix"),
            ("iwlwifi:queue_3", "iwlwifi:queue"),
            ("idxd-portal 3", "idxd-portal"),
        ] {
            assert_eq!(device(name), device_name);
        }
    }

    #[test]
    fn other_devices_keep_their_numbers() {
        for name in [
            "eth0",
            "i8042",
            "ttyS0",
            "rtc0",
            "virtio0-config",
            "xhci-hcd:usb1",
            "acpi",
            "ahci[0000:00:1f.2]",
            "ahci 0000:00:1f.2",
            "0000:00:1f.2",
            "ena-mgmnt@pci:0000:00:05.0",
            "i40e-0000:3b:00.0:misc",
            "9",
            "-3",
            "",
            "q7",
            "seq1",
        ] {
            assert_eq!(device(name), name);
        }
    }
}
