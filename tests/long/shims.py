"""Small shared libraries that stand between a program and the system (LD_PRELOAD), compiled when they are needed."""

import os
import subprocess
import sys

# The time of day is an hour ahead; steady clocks and the times that file systems give are left.
CLOCK = r"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
enum { kAhead = 3600 };
int clock_gettime(clockid_t clock, struct timespec* now) {
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += kAhead;
  return result;
}
int gettimeofday(struct timeval* now, void* zone) {
  (void)zone;
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}
time_t time(time_t* where) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (where) *where = now.tv_sec;
  return now.tv_sec;
}
"""

# Calls that concern files below FAULT_ROOT, counted from the first lease on (the files have been looked at by then).
# FAULT_STATE is a folder: "log" gets a line "function path" a call where FAULT_RECORD is set; "calls" holds their
# number, shared by all processes; "fired" appears once the fault was made. FAULT_FUNCTION and FAULT_PATTERN (shell
# pattern over the path) or FAULT_CALL (number from 1) say which call fails, FAULT_ERRNO how.
FAULT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char* root;
static char state[4096];
static long* calls; /* [0]: how many, [1]: whether they count yet */

static int plain_open(const char* name, int flags) {
  char path[8192];
  snprintf(path, sizeof path, "%s/%s", state, name);
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0666);
}

__attribute__((constructor)) static void begin(void) {
  root = getenv("FAULT_ROOT");
  const char* folder = getenv("FAULT_STATE");
  if (!root || !folder) return;
  snprintf(state, sizeof state, "%s", folder);
  int file = plain_open("calls", O_RDWR | O_CREAT);
  if (file < 0) return;
  if (ftruncate(file, 4096) == 0) {
    void* page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) calls = page;
  }
  syscall(SYS_close, file);
}

/* Whether this call is to fail; errno is set then. */
static int fails(const char* function, const char* path) {
  if (!calls || !path || strncmp(path, root, strlen(root)) != 0) return 0;
  if (!__atomic_load_n(&calls[1], __ATOMIC_SEQ_CST)) {
    if (!strstr(path, "lease.json")) return 0;
    __atomic_store_n(&calls[1], 1, __ATOMIC_SEQ_CST);
  }
  long number = __atomic_add_fetch(&calls[0], 1, __ATOMIC_SEQ_CST);
  if (getenv("FAULT_RECORD")) {
    char line[8192];
    int length = snprintf(line, sizeof line, "%s %s\n", function, path + strlen(root));
    int file = plain_open("log", O_WRONLY | O_CREAT | O_APPEND);
    if (file >= 0) syscall(SYS_write, file, line, (size_t)length), syscall(SYS_close, file);
    return 0;
  }
  const char* which = getenv("FAULT_CALL");
  const char* name = getenv("FAULT_FUNCTION");
  const char* pattern = getenv("FAULT_PATTERN");
  int chosen = which ? number == atol(which)
                     : name && pattern && !strcmp(name, function) && fnmatch(pattern, path + strlen(root), 0) == 0;
  if (!chosen) return 0;
  int fired = plain_open("fired", O_WRONLY | O_CREAT | O_EXCL);
  if (fired < 0) return 0;
  char line[8192];
  int length = snprintf(line, sizeof line, "%s %s\n", function, path + strlen(root));
  syscall(SYS_write, fired, line, (size_t)length);
  syscall(SYS_close, fired);
  const char* error = getenv("FAULT_ERRNO");
  errno = error ? atoi(error) : EIO;
  if (which && !strcmp(function, "open") && errno == ENOSPC) errno = EMFILE;
  return 1;
}

static const char* path_of(int file, char* path, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, size - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return path;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPEN(name, at, parameters, ...)                          \
  int name parameters {                                          \
    mode_t mode = 0;                                             \
    if (flags & (O_CREAT | __O_TMPFILE)) {                       \
      va_list list;                                              \
      va_start(list, flags);                                     \
      mode = va_arg(list, mode_t);                               \
      va_end(list);                                              \
    }                                                            \
    if (fails("open", path)) return -1;                          \
    return (int)syscall(SYS_openat, at, path, flags, mode);      \
  }
OPEN(open, AT_FDCWD, (const char* path, int flags, ...))
OPEN(open64, AT_FDCWD, (const char* path, int flags, ...))
OPEN(openat, folder, (int folder, const char* path, int flags, ...))
OPEN(openat64, folder, (int folder, const char* path, int flags, ...))

FILE* fopen(const char* path, const char* mode) { return fails("open", path) ? 0 : NEXT(fopen)(path, mode); }
FILE* fopen64(const char* path, const char* mode) { return fails("open", path) ? 0 : NEXT(fopen64)(path, mode); }
ssize_t write(int file, const void* bytes, size_t size) {
  char path[4096];
  if (fails("write", path_of(file, path, sizeof path))) return -1;
  return syscall(SYS_write, file, bytes, size);
}
ssize_t pwrite(int file, const void* bytes, size_t size, off_t at) {
  char path[4096];
  if (fails("write", path_of(file, path, sizeof path))) return -1;
  return syscall(SYS_pwrite64, file, bytes, size, at);
}
ssize_t pwrite64(int file, const void* bytes, size_t size, off64_t at) { return pwrite(file, bytes, size, at); }
int fsync(int file) {
  char path[4096];
  if (fails("fsync", path_of(file, path, sizeof path))) return -1;
  return (int)syscall(SYS_fsync, file);
}
int rename(const char* from, const char* to) {
  if (fails("rename", to)) return -1;
  return NEXT(rename)(from, to);
}
int link(const char* from, const char* to) {
  if (fails("link", to)) return -1;
  return NEXT(link)(from, to);
}
int mkdir(const char* path, mode_t mode) {
  if (fails("mkdir", path)) return -1;
  return NEXT(mkdir)(path, mode);
}
int unlink(const char* path) {
  if (fails("unlink", path)) return -1;
  return NEXT(unlink)(path);
}
"""


def compiled(text, folder, name):
    source, library = folder / f"{name}.c", folder / f"{name}.so"
    source.write_text(text)
    compiler = os.environ.get("CC", "cc")
    try:
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source), "-ldl"], check=True)
    except FileNotFoundError:
        print(f"{compiler}: no such compiler: skipped", file=sys.stderr)
        sys.exit(77)
    return library
