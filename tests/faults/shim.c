/* Lets the k-th call on a path below a folder fail, write less than it was asked to, or kill its process.
 *
 * Preloaded into a process and all that it starts (LD_PRELOAD). What to do stands in a file that every process maps, so
 * that all of them count the same calls: shim.py writes it. BASISCLI_FAULTS names the file, or `faults_use` does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, ONCE, FROM_THEN_ON, SHORT, SIGNAL_BEFORE, SIGNAL_AFTER };

struct control {
    int64_t count;    /* the calls below the folder so far */
    int64_t at;       /* the call at which something happens, from 1 */
    int64_t action;   /* one of the names above */
    int64_t argument; /* errno, or the number of a signal */
    int64_t fired;    /* how often something happened */
    char call[32];    /* the call that it happened to first */
    char folder[4000];
};

static struct control *control;

void faults_use(const char *path)
{
    int descriptor = (int)open(path, O_RDWR | O_CLOEXEC);
    control = NULL;
    if (descriptor < 0)
        return;
    void *memory = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    control = memory == MAP_FAILED ? NULL : memory;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("BASISCLI_FAULTS");
    if (path)
        faults_use(path);
}

static int is_below(const char *path)
{
    size_t length = strlen(control->folder);
    return length && !strncmp(path, control->folder, length) && (path[length] == '/' || !path[length]);
}

static int path_of(int descriptor, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static int concerns_path(int folder, const char *path)
{
    char full[8192];
    if (!control || !path)
        return 0;
    if (path[0] == '/')
        return is_below(path);
    if (folder == AT_FDCWD ? !getcwd(full, 4096) : !path_of(folder, full))
        return 0;
    strncat(full, "/", 2);
    strncat(full, path, 4000);
    return is_below(full);
}

static int concerns(int descriptor)
{
    char path[4096];
    return control && path_of(descriptor, path) && is_below(path);
}

/* Counts a call. Returns the action to take now, COUNT if there is none. */
static int action_now(const char *call)
{
    int64_t number = __sync_add_and_fetch(&control->count, 1);
    int action = (int)control->action;
    if (action == COUNT || (action == FROM_THEN_ON ? number < control->at : number != control->at))
        return COUNT;
    if (__sync_add_and_fetch(&control->fired, 1) == 1)
        snprintf(control->call, sizeof control->call, "%s", call);
    if (action == SIGNAL_BEFORE)
        kill(getpid(), (int)control->argument);
    return action;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

/* The body of a call: `below` says whether it concerns the folder, `done` calls the real one, in full or in part. */
#define FAULTY(type, name, below, done, part)                                                                          \
    int action = (below) ? action_now(#name) : COUNT;                                                                  \
    if (action == ONCE || action == FROM_THEN_ON) {                                                                    \
        errno = (int)control->argument;                                                                                \
        return -1;                                                                                                     \
    }                                                                                                                  \
    type result = action == SHORT ? (part) : (done);                                                                   \
    if (action == SIGNAL_AFTER) {                                                                                      \
        int kept = errno;                                                                                              \
        kill(getpid(), (int)control->argument);                                                                        \
        errno = kept;                                                                                                  \
    }                                                                                                                  \
    return result;

#define HALF(size) ((size) > 1 ? (size) / 2 : (size))

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode_t mode = va_arg(list, mode_t);                                                                            \
        va_end(list);                                                                                                  \
        int (*real)(const char *, int, ...) = REAL(int, name, const char *, int, ...);                                 \
        FAULTY(int, name, concerns_path(AT_FDCWD, path), real(path, flags, mode), real(path, flags, mode))             \
    }

#define OPEN_AT(name)                                                                                                  \
    int name(int folder, const char *path, int flags, ...)                                                             \
    {                                                                                                                  \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode_t mode = va_arg(list, mode_t);                                                                            \
        va_end(list);                                                                                                  \
        int (*real)(int, const char *, int, ...) = REAL(int, name, int, const char *, int, ...);                       \
        FAULTY(int, name, concerns_path(folder, path), real(folder, path, flags, mode),                                \
               real(folder, path, flags, mode))                                                                        \
    }

#define TRANSFER(name, memory)                                                                                         \
    ssize_t name(int descriptor, memory buffer, size_t size)                                                           \
    {                                                                                                                  \
        ssize_t (*real)(int, memory, size_t) = REAL(ssize_t, name, int, memory, size_t);                               \
        FAULTY(ssize_t, name, concerns(descriptor), real(descriptor, buffer, size),                                    \
               real(descriptor, buffer, HALF(size)))                                                                   \
    }

#define TRANSFER_AT(name, memory)                                                                                      \
    ssize_t name(int descriptor, memory buffer, size_t size, off_t offset)                                             \
    {                                                                                                                  \
        ssize_t (*real)(int, memory, size_t, off_t) = REAL(ssize_t, name, int, memory, size_t, off_t);                 \
        FAULTY(ssize_t, name, concerns(descriptor), real(descriptor, buffer, size, offset),                            \
               real(descriptor, buffer, HALF(size), offset))                                                           \
    }

#define VECTOR_AT(name)                                                                                                \
    ssize_t name(int descriptor, const struct iovec *parts, int many, off_t offset, int flags)                         \
    {                                                                                                                  \
        ssize_t (*real)(int, const struct iovec *, int, off_t, int) =                                                  \
            REAL(ssize_t, name, int, const struct iovec *, int, off_t, int);                                           \
        struct iovec half = many ? *parts : (struct iovec){0};                                                         \
        half.iov_len = HALF(half.iov_len);                                                                             \
        FAULTY(ssize_t, name, concerns(descriptor), real(descriptor, parts, many, offset, flags),                      \
               real(descriptor, &half, 1, offset, flags))                                                              \
    }

#define ON_PATH(name)                                                                                                  \
    int name(const char *path)                                                                                         \
    {                                                                                                                  \
        int (*real)(const char *) = REAL(int, name, const char *);                                                     \
        FAULTY(int, name, concerns_path(AT_FDCWD, path), real(path), real(path))                                       \
    }

#define ON_DESCRIPTOR(name)                                                                                            \
    int name(int descriptor)                                                                                           \
    {                                                                                                                  \
        int (*real)(int) = REAL(int, name, int);                                                                       \
        FAULTY(int, name, concerns(descriptor), real(descriptor), real(descriptor))                                    \
    }

#define TRUNCATE(name)                                                                                                 \
    int name(int descriptor, off_t size)                                                                               \
    {                                                                                                                  \
        int (*real)(int, off_t) = REAL(int, name, int, off_t);                                                         \
        FAULTY(int, name, concerns(descriptor), real(descriptor, size), real(descriptor, size))                        \
    }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)
TRANSFER(read, void *)
TRANSFER(write, const void *)
TRANSFER_AT(pread, void *)
TRANSFER_AT(pread64, void *)
TRANSFER_AT(pwrite, const void *)
TRANSFER_AT(pwrite64, const void *)
VECTOR_AT(preadv64v2)
VECTOR_AT(pwritev64v2)
ON_DESCRIPTOR(fsync)
ON_DESCRIPTOR(fdatasync)
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)
ON_PATH(unlink)
ON_PATH(rmdir)

int mkdir(const char *path, mode_t mode)
{
    int (*real)(const char *, mode_t) = REAL(int, mkdir, const char *, mode_t);
    FAULTY(int, mkdir, concerns_path(AT_FDCWD, path), real(path, mode), real(path, mode))
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = REAL(int, rename, const char *, const char *);
    FAULTY(int, rename, concerns_path(AT_FDCWD, from) || concerns_path(AT_FDCWD, to), real(from, to), real(from, to))
}
