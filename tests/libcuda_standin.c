/* A stand-in of the CUDA driver for tests: GPUs whose memory is the computer's, so that `cuda.py` can
 * make its real calls through the real binding without a GPU. It computes nothing. It is stricter than a driver: copies
 * wait until their stream is waited for, unknown addresses and calls without a current context are errors.
 *
 * STANDIN_FAULT=cuMemAlloc:2:719 makes the second call of cuMemAlloc, and after a code from 700 on, as after a real one,
 * every later call but cuGetError*, return that code. STANDIN_INTEGRATED=1 makes it a GPU that shares its memory.
 * STANDIN_GPUS=2 makes two of it, with other names, UUIDs and numbers of multiprocessors. STANDIN_SLOW=1 makes waiting
 * for a stream end only when standin_go was called by another thread, or after 10 s with an error.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Result;
typedef uint64_t Address;
enum {
    SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, INVALID_DEVICE = 101, NO_CONTEXT = 201, NOT_FOUND = 500, LAUNCH_TIMEOUT = 702,
    CAPTURE_UNSUPPORTED = 900
};
enum { DEVICE, HOST, STREAM, GRAPH, EXECUTABLE, CONTEXT, EVENT, KINDS };

typedef struct { void *to; const void *from; size_t size; } Copy;
typedef struct { Copy copies[64]; int count, recording; } Work; /* a stream, a graph or an executable graph */
typedef struct { char *start; size_t size; int kind, mapped; } Block;
typedef struct { Work *stream; } Event;
typedef struct { /* CUDA_MEMCPY2D_v2 */
    size_t from_x, from_y; int from_kind; const void *from_host; Address from_device; void *from_array; size_t from_pitch;
    size_t to_x, to_y; int to_kind; void *to_host; Address to_device; void *to_array; size_t to_pitch, width, height;
} Copy2D;

static Block blocks[64];
static int held[KINDS], sticky, contexts[2];
static volatile int waiting, go;
static _Thread_local int depth;

int standin_held(int kind) { return held[kind]; }
int standin_waiting(void) { return waiting; }
void standin_go(void) { go = 1; }

static Result fault(const char *name) {
    static struct { char name[64]; int calls; } counts[64];
    const char *planted = getenv("STANDIN_FAULT");
    char wanted[64] = "";
    int number = 0, code = 0, i = 0;
    if (planted) sscanf(planted, "%63[^:]:%d:%d", wanted, &number, &code);
    while (counts[i].calls && strcmp(counts[i].name, name)) i++;
    strncpy(counts[i].name, name, 63);
    if (++counts[i].calls == number && !strcmp(name, wanted)) {
        if (code >= 700 && code < 900) sticky = code;
        return code;
    }
    return sticky;
}

#define ENTER do { Result code = fault(__func__); if (code) return code; } while (0)
#define ENTER_CONTEXT do { ENTER; if (depth < 1) return NO_CONTEXT; } while (0)

static Block *find(const void *address, size_t size) {
    for (Block *b = blocks; b < blocks + 64; b++)
        if (b->start && b->start <= (char *)address && (char *)address + size <= b->start + b->size) return b;
    return NULL;
}

static Result take(void **pointer, size_t size, int kind) {
    Block *b = blocks;
    if (!size) return INVALID_VALUE;
    while (b->start) b++;
    b->start = aligned_alloc(256, (size + 255) / 256 * 256);
    memset(b->start, 0xA5, size);
    b->size = size, b->kind = kind, held[kind]++;
    *pointer = b->start;
    return SUCCESS;
}

static Result give_back(void *pointer, int kind) {
    Block *b = find(pointer, 1);
    if (!b || b->start != pointer || b->kind != kind) return INVALID_VALUE;
    free(b->start);
    b->start = NULL, held[kind]--;
    return SUCCESS;
}

static Result copy(void *to, const void *from, size_t size, Work *stream) {
    if (!find(to, size) || !find(from, size)) return INVALID_VALUE;
    stream->copies[stream->count++] = (Copy){to, from, size};
    return SUCCESS;
}

static Result cuInit(unsigned flags) { ENTER; return flags; }
static Result cuDriverGetVersion(int *version) { ENTER; *version = 12080; return SUCCESS; }
static int gpus(void) { const char *told = getenv("STANDIN_GPUS"); return told ? atoi(told) : 1; }
#define ENTER_DEVICE do { ENTER; if (device < 0 || device >= gpus()) return INVALID_DEVICE; } while (0)

static Result cuDeviceGetCount(int *count) { ENTER; *count = gpus(); return SUCCESS; }
static Result cuDeviceGet(int *number, int device) { ENTER_DEVICE; *number = device; return SUCCESS; }
static Result cuDeviceTotalMem(size_t *bytes, int device) { ENTER_DEVICE; *bytes = 8ull << 30; return SUCCESS; }

static Result cuDeviceGetName(char *name, int size, int device) {
    ENTER_DEVICE;
    snprintf(name, size, device ? "Second stand-in GPU" : "Stand-in GPU");
    return SUCCESS;
}

static Result cuDeviceGetUuid(unsigned char *uuid, int device) {
    ENTER_DEVICE;
    for (int i = 0; i < 16; i++) uuid[i] = (unsigned char)(16 * device + i);
    return SUCCESS;
}

static Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER_DEVICE;
    const char *integrated = getenv("STANDIN_INTEGRATED");
    switch (attribute) {
    case 16: *value = device ? 8 : 4; break; /* MULTIPROCESSOR_COUNT */
    case 18: *value = integrated && *integrated == '1'; break; /* INTEGRATED */
    case 19: *value = 1; break;                                /* CAN_MAP_HOST_MEMORY */
    case 75: *value = 8; break;                                /* COMPUTE_CAPABILITY_MAJOR */
    case 76: *value = 9; break;                                /* COMPUTE_CAPABILITY_MINOR */
    default: return INVALID_VALUE;
    }
    return SUCCESS;
}

static Result cuGetErrorString(int code, const char **text) {
    *text = code == OUT_OF_MEMORY ? "out of memory" : "an error of the stand-in";
    return SUCCESS;
}

static Result cuGetErrorName(int code, const char **text) { (void)code; *text = "CUDA_ERROR"; return SUCCESS; }

static Result cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER_DEVICE;
    *context = &contexts[device];
    held[CONTEXT]++;
    return SUCCESS;
}

static Result cuDevicePrimaryCtxRelease(int device) { ENTER_DEVICE; held[CONTEXT]--; return SUCCESS; }

static Result cuCtxPushCurrent(void *context) {
    ENTER;
    if ((context != &contexts[0] && context != &contexts[1]) || !held[CONTEXT]) return NO_CONTEXT;
    depth++;
    return SUCCESS;
}

static Result cuCtxPopCurrent(void **context) { ENTER_CONTEXT; *context = &contexts[0]; depth--; return SUCCESS; }

static Result cuMemGetInfo(size_t *unused, size_t *all) {
    ENTER_CONTEXT;
    *unused = 4ull << 30, *all = 8ull << 30;
    return SUCCESS;
}

static Result cuMemAlloc(Address *address, size_t size) { ENTER_CONTEXT; return take((void **)address, size, DEVICE); }
static Result cuMemFree(Address address) { ENTER_CONTEXT; return give_back((void *)address, DEVICE); }
static Result cuMemFreeHost(void *pointer) { ENTER_CONTEXT; return give_back(pointer, HOST); }

static Result cuMemHostAlloc(void **pointer, size_t size, unsigned flags) {
    ENTER_CONTEXT;
    Result code = flags & ~7u ? INVALID_VALUE : take(pointer, size, HOST);
    if (!code) find(*pointer, 1)->mapped = flags & 2; /* DEVICEMAP */
    return code;
}

static Result cuMemHostGetDevicePointer(Address *address, void *pointer, unsigned flags) {
    ENTER_CONTEXT;
    Block *b = find(pointer, 1);
    *address = (Address)pointer;
    return flags || !b || !b->mapped ? INVALID_VALUE : SUCCESS;
}

static Result cuMemcpyHtoDAsync(Address to, const void *from, size_t size, Work *stream) {
    ENTER_CONTEXT;
    return copy((void *)to, from, size, stream);
}

static Result cuMemcpyDtoHAsync(void *to, Address from, size_t size, Work *stream) {
    ENTER_CONTEXT;
    return copy(to, (void *)from, size, stream);
}

static Result cuMemcpy2DAsync(const Copy2D *what, Work *stream) {
    ENTER_CONTEXT;
    if (what->from_kind != 4 || what->to_kind != 4) return INVALID_VALUE; /* UNIFIED */
    if (what->from_x || what->from_y || what->to_x || what->to_y) return INVALID_VALUE;
    if (what->from_pitch < what->width || what->to_pitch < what->width) return INVALID_VALUE;
    for (size_t row = 0; row < what->height; row++) {
        char *to = (char *)what->to_device + row * what->to_pitch;
        Result code = copy(to, (char *)what->from_device + row * what->from_pitch, what->width, stream);
        if (code) return code;
    }
    return SUCCESS;
}

static Work legacy;
static Work *stream_of(Work *stream) { return stream == (Work *)1 ? &legacy : stream; }

static Result cuEventCreate(Event **event, unsigned flags) {
    ENTER_CONTEXT;
    *event = calloc(1, sizeof(Event));
    held[EVENT]++;
    return flags == 2 ? SUCCESS : INVALID_VALUE; /* DISABLE_TIMING */
}

static Result cuEventDestroy(Event *event) { ENTER; free(event); held[EVENT]--; return SUCCESS; }

static Result cuEventRecord(Event *event, Work *stream) {
    ENTER_CONTEXT;
    event->stream = stream_of(stream);
    return SUCCESS;
}

static Result cuStreamWaitEvent(Work *stream, Event *event, unsigned flags) { /* what is waited for is done by the one */
    ENTER_CONTEXT;                                                          /* that waits, since nothing runs by itself */
    Work *other = event->stream;
    if (!other || flags) return INVALID_VALUE;
    for (int i = 0; i < other->count; i++) stream->copies[stream->count++] = other->copies[i];
    other->count = 0;
    return SUCCESS;
}

static Result cuPointerGetAttribute(void *value, int attribute, Address address) {
    ENTER_CONTEXT;
    Block *b = find((void *)address, 1);
    if (!b) return INVALID_VALUE;
    switch (attribute) {
    case 1: *(void **)value = &contexts[0]; break;                 /* CONTEXT */
    case 2: *(unsigned *)value = b->kind == DEVICE ? 2 : 1; break; /* MEMORY_TYPE */
    case 9: *(int *)value = 0; break;                              /* DEVICE_ORDINAL */
    case 11: *(Address *)value = (Address)b->start; break;         /* RANGE_START_ADDR */
    case 12: *(size_t *)value = b->size; break;                    /* RANGE_SIZE */
    default: return INVALID_VALUE;
    }
    return SUCCESS;
}

static Result new_work(Work **work, int kind) {
    *work = calloc(1, sizeof(Work));
    held[kind]++;
    return SUCCESS;
}

static Result cuStreamCreate(Work **stream, unsigned flags) {
    ENTER_CONTEXT;
    return flags > 1 ? INVALID_VALUE : new_work(stream, STREAM);
}

static Result cuStreamDestroy(Work *stream) { ENTER_CONTEXT; free(stream); held[STREAM]--; return SUCCESS; }

static Result cuStreamSynchronize(Work *stream) {
    ENTER_CONTEXT;
    if (stream->recording) return CAPTURE_UNSUPPORTED;
    if (getenv("STANDIN_SLOW")) {
        waiting = 1;
        for (int left = 10000; !go; left--) {
            if (!left) return LAUNCH_TIMEOUT;
            nanosleep(&(struct timespec){0, 1000000}, NULL);
        }
    }
    for (Copy *c = stream->copies; c < stream->copies + stream->count; c++) memcpy(c->to, c->from, c->size);
    stream->count = 0;
    return SUCCESS;
}

static Result cuStreamBeginCapture(Work *stream, int mode) {
    ENTER_CONTEXT;
    if (stream->recording || stream->count || mode != 1) return INVALID_VALUE; /* 1: THREAD_LOCAL */
    stream->recording = 1;
    return SUCCESS;
}

static Result cuStreamEndCapture(Work *stream, Work **graph) {
    Result code = fault(__func__);
    if (!stream->recording) return INVALID_VALUE;
    stream->recording = 0;
    if (!code) {
        new_work(graph, GRAPH);
        **graph = *stream;
    }
    stream->count = 0;
    return code;
}

static Result cuGraphInstantiateWithFlags(Work **executable, Work *graph, unsigned long long flags) {
    ENTER_CONTEXT;
    new_work(executable, EXECUTABLE);
    **executable = *graph;
    return flags ? INVALID_VALUE : SUCCESS;
}

static Result cuGraphDestroy(Work *graph) { ENTER; free(graph); held[GRAPH]--; return SUCCESS; }
static Result cuGraphExecDestroy(Work *graph) { ENTER; free(graph); held[EXECUTABLE]--; return SUCCESS; }

static Result cuGraphLaunch(Work *graph, Work *stream) {
    ENTER_CONTEXT;
    for (int i = 0; i < graph->count; i++) stream->copies[stream->count++] = graph->copies[i];
    return SUCCESS;
}

/* The binding asks here for every function of the driver, binding 12.8 for this one too. */
Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status);

#define NAME(function) {#function, (void *)function}
static const struct { const char *name; void *function; } functions[] = {
    NAME(cuInit), NAME(cuDriverGetVersion), NAME(cuDeviceGetCount), NAME(cuDeviceGet), NAME(cuDeviceTotalMem),
    NAME(cuDeviceGetName), NAME(cuDeviceGetUuid), NAME(cuDeviceGetAttribute), NAME(cuGetErrorString), NAME(cuGetErrorName),
    NAME(cuDevicePrimaryCtxRetain), NAME(cuDevicePrimaryCtxRelease), NAME(cuCtxPushCurrent), NAME(cuCtxPopCurrent),
    NAME(cuMemGetInfo), NAME(cuMemAlloc), NAME(cuMemFree), NAME(cuMemFreeHost), NAME(cuMemHostAlloc),
    NAME(cuMemHostGetDevicePointer), NAME(cuMemcpyHtoDAsync), NAME(cuMemcpyDtoHAsync), NAME(cuStreamCreate),
    NAME(cuStreamDestroy), NAME(cuStreamSynchronize), NAME(cuStreamBeginCapture), NAME(cuStreamEndCapture),
    NAME(cuGraphInstantiateWithFlags), NAME(cuGraphDestroy), NAME(cuGraphExecDestroy), NAME(cuGraphLaunch),
    NAME(cuMemcpy2DAsync), NAME(cuEventCreate), NAME(cuEventDestroy), NAME(cuEventRecord), NAME(cuStreamWaitEvent),
    NAME(cuPointerGetAttribute),
    {"cuGetProcAddress", (void *)cuGetProcAddress_v2},
};

Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    (void)version, (void)flags;
    *function = NULL;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, name)) *function = functions[i].function;
    if (status) *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
