/* A CUDA driver with two devices that are not there. It writes down what it is told, a line for each call, and does nothing.
 *
 * tests/test_driver.py compiles it as libcuda.so.1, which the real cuda-bindings and cuda-core load and take for NVIDIA's.
 * They ask cuGetProcAddress for every function; one that is not in the table below fails with CUDA_ERROR_NOT_SUPPORTED.
 * Handles are numbers: the context of device n is 4096 + n, a kernel is the count of its arguments.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_SUPPORTED = 801 };
enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76, DEVICE_ORDINAL = 9 };
enum { FIRST_CONTEXT = 4096, MOST_ARGUMENTS = 64 };

/* The current contexts of a thread, a stack. */
static _Thread_local uintptr_t contexts[16];
static _Thread_local int count;

static uintptr_t current(void) { return count > 0 ? contexts[count - 1] : 0; }

static int cuInit(unsigned flags) { return SUCCESS; }

static int cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}

static int cuDeviceGetCount(int *found) {
    *found = 2;
    return SUCCESS;
}

static int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return SUCCESS;
}

static int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == COMPUTE_CAPABILITY_MAJOR ? 9 : attribute == COMPUTE_CAPABILITY_MINOR ? device : 1;
    return SUCCESS;
}

static int cuDevicePrimaryCtxRetain(uintptr_t *context, int device) {
    *context = FIRST_CONTEXT + device;
    return SUCCESS;
}

static int cuDevicePrimaryCtxRelease(int device) { return SUCCESS; }

static int cuCtxGetCurrent(uintptr_t *context) {
    *context = current();
    return SUCCESS;
}

static int cuCtxPushCurrent(uintptr_t context) {
    contexts[count++] = context;
    return SUCCESS;
}

static int cuCtxPopCurrent(uintptr_t *context) {
    *context = contexts[--count];
    return SUCCESS;
}

static int cuCtxGetDevice(int *device) {
    *device = (int)(current() - FIRST_CONTEXT);
    return SUCCESS;
}

static int cuStreamGetCtx(void *stream, uintptr_t *context) {
    *context = current();
    return SUCCESS;
}

/* Code is the text of a number, and a library its kernel. */
static int cuLibraryLoadData(uintptr_t *library, const char *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f) {
    puts("load");
    *library = (uintptr_t)atoi(code);
    return SUCCESS;
}

static int cuLibraryUnload(uintptr_t library) { return SUCCESS; }

static int cuLibraryGetKernel(uintptr_t *kernel, uintptr_t library, const char *name) {
    *kernel = library;
    return SUCCESS;
}

struct config {
    unsigned grid[3], block[3], shared;
    uintptr_t stream;
};

static int cuLaunchKernelEx(const struct config *config, uintptr_t kernel, int64_t **arguments, void **extra) {
    char line[64 * MOST_ARGUMENTS], *end = line;
    end += sprintf(end, "launch context=%" PRIuPTR " stream=%" PRIuPTR " grid=%u,%u,%u block=%u,%u,%u shared=%u", current(),
                   config->stream, config->grid[0], config->grid[1], config->grid[2], config->block[0], config->block[1],
                   config->block[2], config->shared);
    for (uintptr_t i = 0; i < kernel && i < MOST_ARGUMENTS; i++) end += sprintf(end, " %" PRId64, *arguments[i]);
    puts(line);
    return SUCCESS;
}

static int cuEventCreate(uintptr_t *event, unsigned flags) {
    printf("event flags=%u context=%" PRIuPTR "\n", flags, current());
    *event = 77;
    return SUCCESS;
}

static int cuEventRecord(uintptr_t event, uintptr_t stream) {
    printf("record %" PRIuPTR " stream=%" PRIuPTR "\n", event, stream);
    return SUCCESS;
}

static int cuStreamWaitEvent(uintptr_t stream, uintptr_t event, unsigned flags) {
    printf("wait %" PRIuPTR " stream=%" PRIuPTR "\n", event, stream);
    return SUCCESS;
}

static int cuEventDestroy(uintptr_t event) {
    printf("destroy %" PRIuPTR "\n", event);
    return SUCCESS;
}

/* Memory of device 1 begins at 2^40; nothing else is on a device. */
static int cuPointerGetAttribute(int *value, int attribute, uint64_t address) {
    *value = 1;
    return attribute == DEVICE_ORDINAL && address >> 40 == 1 ? SUCCESS : INVALID_VALUE;
}

static int cuGetErrorName(int error, const char **text) {
    *text = "an error";
    return SUCCESS;
}

static int cuGetErrorString(int error, const char **text) {
    *text = "an error";
    return SUCCESS;
}

static int not_supported(void) { return NOT_SUPPORTED; }

#define FUNCTION(name) {#name, (void *)name}
static const struct {
    const char *name;
    void *function;
} functions[] = {
    FUNCTION(cuInit), FUNCTION(cuDriverGetVersion), FUNCTION(cuDeviceGetCount), FUNCTION(cuDeviceGet),
    FUNCTION(cuDeviceGetAttribute), FUNCTION(cuDevicePrimaryCtxRetain), FUNCTION(cuDevicePrimaryCtxRelease),
    FUNCTION(cuCtxGetCurrent), FUNCTION(cuCtxPushCurrent), FUNCTION(cuCtxPopCurrent), FUNCTION(cuCtxGetDevice),
    FUNCTION(cuStreamGetCtx), FUNCTION(cuLibraryLoadData), FUNCTION(cuLibraryUnload), FUNCTION(cuLibraryGetKernel),
    FUNCTION(cuLaunchKernelEx), FUNCTION(cuEventCreate), FUNCTION(cuEventRecord), FUNCTION(cuStreamWaitEvent),
    FUNCTION(cuEventDestroy), FUNCTION(cuPointerGetAttribute), FUNCTION(cuGetErrorName), FUNCTION(cuGetErrorString),
};

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    *function = (void *)not_supported;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(name, functions[i].name) == 0) *function = functions[i].function;
    if (status != NULL) *status = 0;
    return SUCCESS;
}
