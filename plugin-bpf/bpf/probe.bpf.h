/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * An argument of a static probe (USDT). Include it after unity.bpf.h.
 *
 *   probe_argument(ctx, &value)   the one that plugin_bpf::Site was made for, in SEC("uprobe")
 *
 * Where a site has it comes as the link's cookie. Before Linux 5.15 there are none, and a site is known by
 * its address within a page, which is the same in every process.
 */
#ifndef __PROBE_BPF_H
#define __PROBE_BPF_H

extern const _Bool LINUX_HAS_BPF_COOKIE __kconfig;

HASH(unity_sites, __u32, __u64, 256);

/* As plugin_bpf::elf::Argument packs it: kind, size in bytes with the sign, register, number. */
#define UNITY_CONSTANT 1
#define UNITY_REGISTER 2
#define UNITY_MEMORY   3
#define UNITY_SIGNED   0x80

static __always_inline __u64 unity_site(void *ctx)
{
	__u32 key = PT_REGS_IP((struct pt_regs *)ctx) & 0xfff;
	__u64 *site;

	if (LINUX_HAS_BPF_COOKIE)
		return bpf_get_attach_cookie(ctx);
	site = bpf_map_lookup_elem(&unity_sites, &key);
	return site ? *site : 0;
}

static __always_inline bool probe_argument(void *ctx, __u64 *value)
{
	__u64 site = unity_site(ctx), word = 0;
	__u32 kind = site & 0xff, bytes = site >> 8 & 0x7f, at = site >> 16 & 0x1ff;
	__s64 number = (__s32)(site >> 32);
	__u32 unused_bits;

	if (!kind || !bytes || bytes > sizeof(word))
		return false;
	if (kind == UNITY_CONSTANT)
		word = number;
	else if (bpf_probe_read_kernel(&word, sizeof(word), ctx + at))
		return false;
	if (kind == UNITY_MEMORY) {
		void *place = (void *)(word + number);

		word = 0;
		if (bpf_probe_read_user(&word, bytes, place))
			return false;
	}
	unused_bits = 64 - 8 * bytes;
	word <<= unused_bits;
	*value = site >> 8 & UNITY_SIGNED ? (__u64)((__s64)word >> unused_bits)
					  : word >> unused_bits;
	return true;
}

#endif
