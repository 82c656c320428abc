// The system calls that neither QEMU nor a pager makes and that lead deep into the kernel or out of the confinement: refused with
// EPERM, as programs expect of a kernel that was built without them. QEMU's own filter (-sandbox) comes on top of it.
//
// A list of what is denied, not of what is allowed: libraries and their updates choose their calls freely. What remains are calls on
// descriptors, memory, threads and time, which the program's user, capabilities and namespaces limit.
#include "confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define REFUSE(error) RETURN(SECCOMP_RET_ERRNO | (error))
#define IF_EQUAL_ELSE_SKIP(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define DENY(name) IF_EQUAL_ELSE_SKIP(SYS_##name, 1), REFUSE(EPERM)

#define NAMESPACE_FLAGS (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP)
#define X32_BIT 0x40000000u

static struct sock_filter program[] = {
    LOAD(arch),
    IF_EQUAL_ELSE_SKIP(AUDIT_ARCH_X86_64, 1),
    BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
    RETURN(SECCOMP_RET_KILL_PROCESS), // 32-bit calls have other numbers
    LOAD(nr),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
    RETURN(SECCOMP_RET_KILL_PROCESS),
    // Sockets are made by the agent; these only use them.
    DENY(socket), DENY(connect), DENY(bind),
    // Namespaces, mounts, files by other ways than names.
    DENY(unshare), DENY(setns), DENY(mount), DENY(umount2), DENY(pivot_root), DENY(chroot), DENY(open_tree), DENY(move_mount),
    DENY(fsopen), DENY(fsconfig), DENY(fsmount), DENY(fspick), DENY(mount_setattr), DENY(name_to_handle_at),
    DENY(open_by_handle_at), DENY(mknod), DENY(mknodat), DENY(quotactl), DENY(quotactl_fd), DENY(fanotify_init),
    // Other processes.
    DENY(ptrace), DENY(process_vm_readv), DENY(process_vm_writev), DENY(process_madvise), DENY(pidfd_getfd), DENY(kcmp),
    DENY(move_pages), DENY(migrate_pages),
    // The machine.
    DENY(init_module), DENY(finit_module), DENY(delete_module), DENY(kexec_load), DENY(kexec_file_load), DENY(reboot), DENY(swapon),
    DENY(swapoff), DENY(acct), DENY(settimeofday), DENY(clock_settime), DENY(adjtimex), DENY(clock_adjtime), DENY(sethostname),
    DENY(setdomainname), DENY(syslog), DENY(vhangup), DENY(iopl), DENY(ioperm), DENY(modify_ldt),
    // Large interfaces of the kernel.
    DENY(bpf), DENY(perf_event_open), DENY(io_uring_setup), DENY(io_uring_enter), DENY(io_uring_register), DENY(userfaultfd),
    DENY(keyctl), DENY(add_key), DENY(request_key), DENY(shmget), DENY(shmat), DENY(shmctl), DENY(semget), DENY(semop), DENY(semctl),
    DENY(msgget), DENY(msgsnd), DENY(msgrcv), DENY(msgctl), DENY(mq_open), DENY(personality),
    // Users.
    DENY(setuid), DENY(setgid), DENY(setreuid), DENY(setregid), DENY(setresuid), DENY(setresgid), DENY(setgroups), DENY(setfsuid),
    DENY(setfsgid), DENY(capset),
    // clone3 has its flags where a filter cannot see them: without it, libraries use clone.
    IF_EQUAL_ELSE_SKIP(SYS_clone3, 1), REFUSE(ENOSYS),
    IF_EQUAL_ELSE_SKIP(SYS_clone, 3),
    LOAD(args[0]),
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACE_FLAGS, 0, 1),
    REFUSE(EPERM),
    RETURN(SECCOMP_RET_ALLOW),
};

int torpor_confine_filter_system_calls(void) {
    const struct sock_fprog filter = {sizeof program / sizeof *program, program};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}
