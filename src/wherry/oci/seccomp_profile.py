"""Our default system-call profile: an allow list, everything else gets EPERM.

It is a Docker profile as `--security-opt seccomp=FILE` reads one (`includes` and `excludes` by capability, architecture
and kernel), so that it can be printed, changed and given back. `runtime/seccomp.py` compiles it.

What is left out on purpose: loading kernels and modules, swap, setting the clock, keyrings, userfaultfd, io_uring; bpf,
perf, mounts and namespaces without the capability that rules them; two socket families that reach what is shared.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# by subject; within one, by what is done rather than by alphabet where that reads better
_FILES = """
access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat getcwd getdents getdents64 lchown lchown32 link linkat lstat
lstat64 mkdir mkdirat mknod mknodat newfstatat _newselect open openat openat2 readlink readlinkat rename renameat
renameat2 rmdir stat stat64 statfs statfs64 statx symlink symlinkat truncate truncate64 umask unlink unlinkat utime
utimensat utimensat_time64 utimes cachestat fanotify_mark name_to_handle_at
"""
_ATTRIBUTES = """
fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_DESCRIPTORS = """
close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl fcntl64 fdatasync flock fsync
ftruncate ftruncate64 ioctl lseek _llseek memfd_create pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2
read readahead readv sendfile sendfile64 splice sync sync_file_range syncfs tee vmsplice write writev
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll ppoll ppoll_time64 pselect6 pselect6_time64 select
signalfd signalfd4 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 io_cancel
io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit
"""
_MEMORY = """
brk madvise membarrier memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock
munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages map_shadow_stack
"""
_PROCESSES = """
capget capset execve execveat exit exit_group fork getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid kill pidfd_open pidfd_send_signal prctl prlimit64
rseq seccomp set_robust_list get_robust_list set_thread_area get_thread_area set_tid_address setpgid setpriority
setrlimit setsid tgkill times tkill ugetrlimit uname vfork wait4 waitid waitpid getcpu sysinfo
"""
_IDENTITY = """
getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getuid getuid32 setfsgid setfsgid32 setfsuid
setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setuid setuid32
"""
_SIGNALS = """
alarm pause restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn
"""
_TIME = """
adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64
"""
_SCHEDULING = """
ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield
"""
_SYNCHRONISATION = """
futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue ipc mq_getsetattr mq_notify mq_open mq_timedreceive
mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop
semtimedop semtimedop_time64 shmat shmctl shmdt shmget
"""
_NETWORK = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 recvmsg
send sendmmsg sendmsg sendto setsockopt shutdown socket socketcall socketpair
"""
_SANDBOXING = "landlock_add_rule landlock_create_ruleset landlock_restrict_self"

_EVERYBODY = (
    _FILES,
    _ATTRIBUTES,
    _DESCRIPTORS,
    _WAITING,
    _MEMORY,
    _PROCESSES,
    _IDENTITY,
    _SIGNALS,
    _TIME,
    _SCHEDULING,
    _SYNCHRONISATION,
    _NETWORK,
    _SANDBOXING,
)

# what one capability opens
_BY_CAPABILITY = (
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        (
            "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie "
            "listmount mount mount_setattr move_mount open_tree open_tree_attr perf_event_open "
            "quotactl quotactl_fd setdomainname sethostname setns statmount syslog umount umount2 unshare"
        ),
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
)

# what one architecture needs: `ptrace`-free debugging aids and segment registers of x86, cache control of arm…
_BY_ARCHITECTURE = (
    (("amd64", "x32"), "arch_prctl"),
    (("amd64", "x32", "x86"), "modify_ldt"),
    (("amd64",), "uretprobe"),
    (("arm", "arm64"), "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
    (("riscv64",), "riscv_flush_icache riscv_hwprobe"),
    (("s390", "s390x"), "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (("ppc64le",), "swapcontext rtas"),
)

# personality(2): Linux, 32-bit Linux, their variants with UNAME26, and a question
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)

# clone(2) flags that make namespaces: user, pid, net, ipc, uts, mount, cgroup
_NAMESPACE_FLAGS = 0x7E020000

_AF_VSOCK, _AF_ALG = 40, 38
CLOSED_FAMILIES = (_AF_ALG, _AF_VSOCK)
"""Of no socket, whichever call makes it."""
_SOCKETCALL_SOCKET = 1
_LOW_WORD = 0xFFFFFFFF
_EPERM, _ENOSYS = 1, 38


def default_profile() -> "dict[str, Any]":
    """The profile, as a new value each time."""
    syscalls: list[dict[str, Any]] = [_allow(*(name for text in _EVERYBODY for name in text.split()))]
    # the kernel checks tracing itself since 4.8; before that a traced child could shed this filter
    syscalls.append({**_allow("process_vm_readv", "process_vm_writev", "ptrace"), "includes": {"minKernel": "4.8"}})
    syscalls += _sockets()
    syscalls += [{**_allow("personality"), "args": [_compare(0, "SCMP_CMP_EQ", value)]} for value in _PERSONALITIES]
    syscalls += _cloning()
    syscalls += [{**_allow(*names.split()), "includes": {"arches": list(arches)}} for arches, names in _BY_ARCHITECTURE]
    syscalls += [{**_allow(*names.split()), "includes": {"caps": [capability]}} for capability, names in _BY_CAPABILITY]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
            {"architecture": "SCMP_ARCH_PPC64LE", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": []},
        ],
        "syscalls": syscalls,
    }


def _sockets() -> "list[dict[str, Any]]":
    """No AF_ALG and no AF_VSOCK: the kernel's crypto sockets were a way into other containers' page cache, and vsock
    reaches the hypervisor. The family is an int: only its low word is compared, or a high bit would slip through.
    A 32-bit socketcall hides its arguments in memory, so its way to make sockets is closed; the engine opens
    another one (`runtime/socketcall.py`)."""
    refused = [
        {
            **_refuse("socket", _EPERM),
            "args": [_compare(0, "SCMP_CMP_MASKED_EQ", _LOW_WORD, family)],
        }
        for family in CLOSED_FAMILIES
    ]
    refused.append(
        {
            **_refuse("socketcall", _EPERM),
            "args": [_compare(0, "SCMP_CMP_MASKED_EQ", _LOW_WORD, _SOCKETCALL_SOCKET)],
        }
    )
    return refused


def _cloning() -> "list[dict[str, Any]]":
    """Without CAP_SYS_ADMIN no new namespaces. clone3's flags lie in memory, so it is said not to exist: libc then
    takes clone(2), whose flags can be looked at (on s390 they are the second argument)."""
    excluded = {"caps": ["CAP_SYS_ADMIN"]}
    first = [_compare(0, "SCMP_CMP_MASKED_EQ", _NAMESPACE_FLAGS, 0)]
    second = [_compare(1, "SCMP_CMP_MASKED_EQ", _NAMESPACE_FLAGS, 0)]
    return [
        {**_allow("clone"), "args": first, "excludes": {**excluded, "arches": ["s390", "s390x"]}},
        {**_allow("clone"), "args": second, "includes": {"arches": ["s390", "s390x"]}, "excludes": excluded},
        {**_refuse("clone3", _ENOSYS), "excludes": excluded},
    ]


def _allow(*names: str) -> "dict[str, Any]":
    return {"names": list(names), "action": "SCMP_ACT_ALLOW"}


def _refuse(name: str, number: int) -> "dict[str, Any]":
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": number}


def _compare(index: int, op: str, value: int, value_two: int = 0) -> "dict[str, Any]":
    return {"index": index, "value": value, "valueTwo": value_two, "op": op}
