// SPDX-License-Identifier: MIT OR Apache-2.0
/* Every kernel type of the headers in bpf/kernel, and every function of filter.bpf.h. */
#include "unity.bpf.h"
#include "filter.bpf.h"
#include "kernel/irq.h"
#include "kernel/mm.h"
#include "kernel/connect.h"
#include "kernel/sock.h"
#include "kernel/timer.h"

/* A variable of each type, so that the object's BTF has it whole. */
struct {
	struct cred cred;
	struct signal_struct signal_struct;
	struct ns_common ns_common;
	struct pid_namespace pid_namespace;
	struct net net;
	struct nsproxy nsproxy;
	struct upid upid;
	struct pid pid;
	struct task_struct task_struct;
	struct task_struct___pre_5_14 task_struct___pre_5_14;
} task_types;

struct {
	struct kernfs_node kernfs_node;
	struct cgroup cgroup;
	struct css_set css_set;
	struct cgroup___6_1 cgroup___6_1;
	struct cgroup___pre_6_1 cgroup___pre_6_1;
} cgroup_types;

struct {
	struct qstr qstr;
	struct inode inode;
	struct super_block super_block;
	struct dentry dentry;
	struct vfsmount vfsmount;
	struct path path;
	struct file file;
	struct fdtable fdtable;
	struct files_struct files_struct;
	struct filename filename;
	struct open_how open_how;
	struct linux_binprm linux_binprm;
} file_types;

struct {
	struct trace_entry trace_entry;
	struct trace_event_raw_sys_enter trace_event_raw_sys_enter;
	struct trace_event_raw_sys_exit trace_event_raw_sys_exit;
} trace_types;

struct {
	struct irqaction irqaction;
	struct trace_event_raw_irq_handler_entry trace_event_raw_irq_handler_entry;
	struct trace_event_raw_irq_handler_exit trace_event_raw_irq_handler_exit;
	struct trace_event_raw_softirq trace_event_raw_softirq;
} irq_types;

struct {
	struct timerqueue_node timerqueue_node;
	struct hrtimer hrtimer;
} timer_types;

struct {
	struct in_addr in_addr;
	struct in6_addr in6_addr;
	struct sockaddr sockaddr;
	struct sockaddr_in sockaddr_in;
	struct sockaddr_in6 sockaddr_in6;
	struct sock_common sock_common;
	struct sock sock;
	struct socket socket;
	struct inet_sock inet_sock;
	struct inet_connection_sock inet_connection_sock;
	struct tcp_sock tcp_sock;
	struct msghdr msghdr;
} sock_types;

struct {
	struct mm_struct mm_struct;
	struct trace_event_raw_kmalloc trace_event_raw_kmalloc;
	struct trace_event_raw_kmem_cache_alloc trace_event_raw_kmem_cache_alloc;
	struct trace_event_raw_kfree trace_event_raw_kfree;
	struct trace_event_raw_kmem_cache_free trace_event_raw_kmem_cache_free;
	struct trace_event_raw_mm_page_alloc trace_event_raw_mm_page_alloc;
	struct trace_event_raw_mm_page_free trace_event_raw_mm_page_free;
	struct trace_event_raw_percpu_alloc_percpu trace_event_raw_percpu_alloc_percpu;
	struct trace_event_raw_percpu_free_percpu trace_event_raw_percpu_free_percpu;
	struct trace_event_raw_kmem_alloc___pre_6_1 trace_event_raw_kmem_alloc___pre_6_1;
	struct trace_event_raw_kmem_alloc_node___pre_6_1 trace_event_raw_kmem_alloc_node___pre_6_1;
	struct trace_event_raw_kmem_free___pre_5_12 trace_event_raw_kmem_free___pre_5_12;
} mm_types;

/* What the functions said of the task that a test looks at. */
struct answer {
	__u64 cgroup;
	__u32 pidns;
	__u32 wanted; /* events that filter_task() let through */
	__u32 unwanted;
	__u32 wanted_current; /* system calls that filter_current() let through */
	__u32 unwanted_current;
	struct comm comm;
};

const volatile __u32 watched = 0; /* a thread's id */
struct answer answer = {};

static __always_inline int look_at(struct task_struct *task)
{
	if (BPF_CORE_READ(task, pid) != watched)
		return 0;
	if (!filter_task(task)) {
		__sync_fetch_and_add(&answer.unwanted, 1);
		return 0;
	}
	__sync_fetch_and_add(&answer.wanted, 1);
	answer.cgroup = task_cgroup_id(task);
	answer.pidns = task_pidns(task);
	answer.comm = comm_at(task->comm);
	return 0;
}

SEC("raw_tp/sched_switch")
int BPF_PROG(switch_raw, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return look_at(next);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switch_btf, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return look_at(next);
}

SEC("raw_tp/sys_enter")
int enter_raw(void *ctx)
{
	if ((__u32)bpf_get_current_pid_tgid() != watched)
		return 0;
	if (filter_current())
		__sync_fetch_and_add(&answer.wanted_current, 1);
	else
		__sync_fetch_and_add(&answer.unwanted_current, 1);
	return 0;
}
