"""System call numbers that sandboxed code may use, for each supported machine.

Only what CPython, numpy and sympy need to compute and print. Whatever is not listed is refused by
:mod:`astune.tools.seccomp`. Source: Linux ``asm/unistd_64.h`` and ``asm-generic/unistd.h``.
"""

from __future__ import annotations

X86_64: dict[str, int] = {
    "read": 0, "write": 1, "readv": 19, "writev": 20, "pread64": 17, "pwrite64": 18, "close": 3, "close_range": 436,
    "fstat": 5, "stat": 4, "lstat": 6, "newfstatat": 262, "statx": 332, "access": 21, "faccessat": 269,
    "faccessat2": 439, "open": 2, "openat": 257, "lseek": 8, "fadvise64": 221, "readlink": 89, "readlinkat": 267,
    "getcwd": 79, "getdents64": 217, "dup": 32, "dup2": 33, "dup3": 292, "pipe": 22, "pipe2": 293, "poll": 7,
    "ppoll": 271, "select": 23, "pselect6": 270, "epoll_create1": 291, "epoll_ctl": 233, "epoll_wait": 232,
    "epoll_pwait": 281, "eventfd2": 290, "mmap": 9, "mprotect": 10, "munmap": 11, "mremap": 25, "madvise": 28,
    "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sigaltstack": 131,
    "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "pause": 34, "setitimer": 38,
    "getitimer": 36, "alarm": 37, "getpid": 39, "getppid": 110, "gettid": 186, "getuid": 102, "geteuid": 107,
    "getgid": 104, "getegid": 108, "getpgrp": 111, "getpgid": 121, "getsid": 124, "uname": 63, "sysinfo": 99,
    "getrusage": 98, "getrlimit": 97, "times": 100, "time": 201, "gettimeofday": 96, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "nanosleep": 35, "getrandom": 318, "sched_yield": 24,
    "sched_getaffinity": 204, "getcpu": 309, "futex": 202, "set_robust_list": 273, "get_robust_list": 274,
    "rseq": 334, "set_tid_address": 218, "arch_prctl": 158, "membarrier": 324, "restart_syscall": 219, "exit": 60,
    "exit_group": 231, "ioctl": 16, "fcntl": 72, "kill": 62, "tgkill": 234, "prctl": 157, "prlimit64": 302,
    "clone": 56, "clone3": 435,
}

AARCH64: dict[str, int] = {
    "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "close": 57,
    "close_range": 436, "fstat": 80, "newfstatat": 79, "statx": 291, "faccessat": 48, "faccessat2": 439,
    "openat": 56, "lseek": 62, "fadvise64": 223, "readlinkat": 78, "getcwd": 17, "getdents64": 61, "dup": 23,
    "dup3": 24, "pipe2": 59, "ppoll": 73, "pselect6": 72, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22,
    "eventfd2": 19, "mmap": 222, "mprotect": 226, "munmap": 215, "mremap": 216, "madvise": 233, "brk": 214,
    "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "sigaltstack": 132, "rt_sigpending": 136,
    "rt_sigtimedwait": 137, "rt_sigsuspend": 133, "setitimer": 103, "getitimer": 102, "getpid": 172, "getppid": 173,
    "gettid": 178, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "getpgid": 155, "getsid": 156,
    "uname": 160, "sysinfo": 179, "getrusage": 165, "getrlimit": 163, "times": 153, "gettimeofday": 169,
    "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115, "nanosleep": 101, "getrandom": 278,
    "sched_yield": 124, "sched_getaffinity": 123, "getcpu": 168, "futex": 98, "set_robust_list": 99,
    "get_robust_list": 100, "rseq": 293, "set_tid_address": 96, "membarrier": 283, "restart_syscall": 128,
    "exit": 93, "exit_group": 94, "ioctl": 29, "fcntl": 25, "kill": 129, "tgkill": 131, "prctl": 167,
    "prlimit64": 261, "clone": 220, "clone3": 435,
}
