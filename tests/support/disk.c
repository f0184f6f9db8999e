/* A disk that fails on command and forgets what was not synced.
 *
 * A library for LD_PRELOAD: it stands between a program and the files directly below DISK_ROOT, and is steered through
 * DISK_STATE/control, an array of 64-bit numbers that both sides map (`tests/it/disk.rs` has the same list).
 *
 * The files themselves are what the kernel's cache would show: a process that is killed loses nothing of them. What a
 * power cut would leave stands in DISK_STATE: NAME is the content as of the last syncs, NAME.dirty has a byte for each
 * page written since, NAME.entry says that the directory was synced with that name in it. A failed sync marks the pages
 * clean without writing them, as Linux does: the next sync of the same file then succeeds without them. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    ROOM,           /* bytes by which files may still grow; negative: as many as they like */
    SYNCS_LEFT,     /* syncs that still succeed before one fails */
    SYNCS_TO_FAIL,  /* how many then fail; negative: all */
    WRITES_FAIL,    /* every write fails */
    WRITES_SHORT,   /* every write writes half */
    SYNC_MS,        /* how long a sync takes */
    CLOCK_MS,       /* what is added to the wall clock */
    PARENT_SYNCED,  /* the directory above DISK_ROOT was synced while DISK_ROOT was in it */
    SYNCS_BEGUN,    /* how many syncs of files have begun */
    SYNCS_ENDED,    /* and ended */
    NUMBERS
};
enum { PAGE = 4096 };

static volatile int64_t *control;
static char root[PATH_MAX], state[PATH_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    char path[PATH_MAX];
    if (!getenv("DISK_ROOT") || !getenv("DISK_STATE")) return;
    snprintf(root, sizeof root, "%s", getenv("DISK_ROOT"));
    snprintf(state, sizeof state, "%s", getenv("DISK_STATE"));
    if (snprintf(path, sizeof path, "%s/control", state) >= PATH_MAX) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *mapped = mmap(NULL, NUMBERS * sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) control = mapped;
}

/* The name below DISK_ROOT, if this is a file that must survive there. (The shared memory of SQLite need not.) */
static const char *tracked(const char *path) {
    size_t length = strlen(root);
    if (!control || strncmp(path, root, length) || path[length] != '/') return NULL;
    const char *name = path + length + 1;
    return strchr(name, '/') || !strcmp(name, "lock") || strstr(name, "-shm") ? NULL : name;
}

static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = control ? readlink(link, path, PATH_MAX - 1) : -1;
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int kept(const char *name, const char *suffix, int flags) {
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s%s", state, name, suffix);
    return flags < 0 ? unlink(path) : open(path, flags | O_CLOEXEC, 0600);
}

static int64_t size_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_size;
}

static ssize_t raw_write(int fd, const void *bytes, size_t count, off_t at) {
    return syscall(SYS_pwrite64, fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    char path[PATH_MAX];
    const char *name = tracked(path_of(fd, path));
    if (!name) return raw_write(fd, bytes, count, at);
    pthread_mutex_lock(&lock);
    int64_t before = size_of(fd), growth = (int64_t)count + at - before, most = count;
    if (control[WRITES_SHORT] && most > 1) most /= 2;
    if (control[ROOM] >= 0 && growth > control[ROOM] && most > (int64_t)count - (growth - control[ROOM]))
        most = count - (growth - control[ROOM]);
    int error = control[WRITES_FAIL] ? EIO : most <= 0 && count ? ENOSPC : 0;
    ssize_t written = error ? -1 : raw_write(fd, bytes, most, at);
    if (written > 0) {
        int dirty = kept(name, ".dirty", O_RDWR | O_CREAT);
        for (int64_t page = at / PAGE; page <= (at + written - 1) / PAGE; page++) raw_write(dirty, "\1", 1, page);
        close(dirty);
        if (control[ROOM] >= 0 && size_of(fd) > before) control[ROOM] -= size_of(fd) - before;
    }
    pthread_mutex_unlock(&lock);
    if (error) errno = error;
    return written;
}

/* What a sync leaves on the disk: the dirty pages, or, when it fails, none of them, and yet they count as clean. */
static void settle(int fd, const char *name, int fails) {
    int dirty = kept(name, ".dirty", O_RDWR | O_CREAT), disk = kept(name, "", O_RDWR | O_CREAT);
    char is_dirty, page[PAGE];
    for (int64_t at = 0, pages = size_of(dirty); !fails && at < pages; at++) {
        if (pread(dirty, &is_dirty, 1, at) != 1 || !is_dirty) continue;
        ssize_t count = pread(fd, page, PAGE, at * PAGE);
        if (count > 0) raw_write(disk, page, count, at * PAGE);
    }
    if (!fails) syscall(SYS_ftruncate, disk, size_of(fd));
    syscall(SYS_ftruncate, dirty, 0);
    close(dirty);
    close(disk);
}

static void settle_directory(const char *path) {
    struct dirent *entry;
    DIR *entries = opendir(path);
    while (entries && (entry = readdir(entries))) {
        char child[2 * PATH_MAX];
        snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (!strcmp(child, root)) control[PARENT_SYNCED] = 1;
        if (tracked(child) && entry->d_name[0] != '.') close(kept(entry->d_name, ".entry", O_WRONLY | O_CREAT));
    }
    if (entries) closedir(entries);
}

int fsync(int fd) {
    char path[PATH_MAX];
    const char *name = tracked(path_of(fd, path));
    if (!name) {
        if (control) settle_directory(path);
        return syscall(SYS_fsync, fd);
    }
    __atomic_add_fetch(&control[SYNCS_BEGUN], 1, __ATOMIC_RELAXED);
    if (control[SYNC_MS] > 0) usleep(control[SYNC_MS] * 1000);
    pthread_mutex_lock(&lock);
    control[SYNCS_ENDED]++;
    int fails = control[SYNCS_LEFT] <= 0 && control[SYNCS_TO_FAIL] != 0;
    if (fails && control[SYNCS_TO_FAIL] > 0) control[SYNCS_TO_FAIL]--;
    if (control[SYNCS_LEFT] > 0) control[SYNCS_LEFT]--;
    settle(fd, name, fails);
    pthread_mutex_unlock(&lock);
    if (fails) errno = EIO;
    return fails ? -1 : 0;
}

int ftruncate64(int fd, off64_t size) {
    char path[PATH_MAX];
    int64_t before = size_of(fd);
    int failed = syscall(SYS_ftruncate, fd, size);
    if (!failed && tracked(path_of(fd, path)) && control[ROOM] >= 0) control[ROOM] += before - size;
    return failed;
}

int unlink(const char *path) {
    struct stat found;
    const char *name = stat(path, &found) ? NULL : tracked(path);
    if (name) {
        const char *suffixes[] = {"", ".dirty", ".entry"};
        for (int i = 0; i < 3; i++) kept(name, suffixes[i], -1);
        if (control[ROOM] >= 0) control[ROOM] += found.st_size;
    }
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && control) now->tv_sec += control[CLOCK_MS] / 1000;
    return failed;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fdatasync(int fd) { return fsync(fd); }
