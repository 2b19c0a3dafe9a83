/* A pretended GPU: CUDA's runtime and cuBLAS as torch calls them, on a machine without a GPU.

   Device memory is memory of this machine, as much as PRETENDED_GB allows, and always zero: kernels and copies to it do nothing.
   They are counted, as is all that makes the host wait. Preloaded, these functions stand in for those of the real libraries. */

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#undef cudaGetDeviceProperties

enum { MOST_BLOCKS = 1 << 16, MOST_DEVICES = 16, HOST = -1 };

/* What tests read and reset. */
long pretended_synchronisations, pretended_launches, pretended_pageable_copies, pretended_pinned_allocations;
/* Of the synchronisations, those that end with nothing queued: a GPU would idle until the host has queued more. */
long pretended_drains;
/* An error, such as 719, that every call returns from now on. */
long pretended_error;
/* If it is not 0, others have taken all memory of the device but so many bytes. */
long pretended_room;

static const size_t CONTEXT_BYTES = 600u << 20; /* what CUDA takes for itself on an H100, as its users see it */
static __thread int current_device;

static double number(const char *variable, double otherwise) {
    const char *text = getenv(variable);
    return text ? atof(text) : otherwise;
}
static size_t device_bytes(void) { return (size_t)(number("PRETENDED_GB", 79.1) * (1u << 30)); }
static int devices(void) { return (int)number("PRETENDED_GPUS", 1); }

/* Memory: blocks of each device, and pinned ones of the host. */

static struct block { char *start; size_t bytes; int owner; } blocks[MOST_BLOCKS];
static int num_blocks;
static size_t used[MOST_DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int find(const void *address) {
    for (int i = 0; i < num_blocks; i++)
        if ((char *)address >= blocks[i].start && (char *)address < blocks[i].start + blocks[i].bytes) return i;
    return -1;
}

static enum cudaMemoryType kind_of(const void *address) {
    pthread_mutex_lock(&lock);
    int i = find(address);
    enum cudaMemoryType kind = i < 0 ? cudaMemoryTypeUnregistered : blocks[i].owner == HOST ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    pthread_mutex_unlock(&lock);
    return kind;
}

static cudaError_t take(void **address, size_t bytes, int owner) {
    if (pretended_error) return pretended_error;
    pthread_mutex_lock(&lock);
    size_t room = pretended_room ? (size_t)pretended_room : device_bytes() - CONTEXT_BYTES;
    int full = num_blocks == MOST_BLOCKS || (owner != HOST && used[owner] + bytes > room);
    void *found = full ? MAP_FAILED : mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found != MAP_FAILED) {
        blocks[num_blocks++] = (struct block){found, bytes, owner};
        if (owner != HOST) used[owner] += bytes;
        *address = found;
    }
    pthread_mutex_unlock(&lock);
    return found == MAP_FAILED ? cudaErrorMemoryAllocation : cudaSuccess;
}

static cudaError_t give_back(void *address) {
    pthread_mutex_lock(&lock);
    int i = find(address);
    if (i >= 0) {
        munmap(blocks[i].start, blocks[i].bytes);
        if (blocks[i].owner != HOST) used[blocks[i].owner] -= blocks[i].bytes;
        blocks[i] = blocks[--num_blocks];
    }
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **address, size_t bytes) { return take(address, bytes, current_device); }
cudaError_t cudaFree(void *address) { return give_back(address); }
cudaError_t cudaFreeHost(void *address) { return give_back(address); }
cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
    pretended_pinned_allocations++;
    return take(address, bytes, HOST);
}
cudaError_t cudaMemGetInfo(size_t *available, size_t *all) {
    *all = device_bytes();
    *available = *all - used[current_device] - CONTEXT_BYTES;
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *address) {
    memset(found, 0, sizeof *found);
    found->type = kind_of(address);
    found->device = current_device;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream) {
    enum cudaMemoryType target = kind_of(to), source = kind_of(from);
    if (target == cudaMemoryTypeUnregistered || source == cudaMemoryTypeUnregistered) pretended_pageable_copies++;
    if (target != cudaMemoryTypeDevice) memcpy(to, from, bytes);
    return pretended_error;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, 0);
}

/* Waiting, and work for the device. */

#define WAITS(call) cudaError_t call { pretended_synchronisations++, pretended_drains++; return pretended_error; }
#define LAUNCHES(call) cudaError_t call { pretended_launches++; return pretended_error; }
#define DOES_NOTHING(call) cudaError_t call { return cudaSuccess; }
#define TELLS_ERROR(call) cudaError_t call { return pretended_error; }

WAITS(cudaDeviceSynchronize(void))
WAITS(cudaStreamSynchronize(cudaStream_t stream))
LAUNCHES(cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream))
LAUNCHES(__cudaLaunchKernel(void *f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream))
LAUNCHES(cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *f, void **args))
TELLS_ERROR(cudaGetLastError(void))
TELLS_ERROR(cudaPeekAtLastError(void))
const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaErrorMemoryAllocation ? "out of memory" : error ? "unspecified launch failure" : "no error";
}
const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

DOES_NOTHING(cudaMemset(void *address, int value, size_t bytes))
DOES_NOTHING(cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream))
DOES_NOTHING(cudaHostRegister(void *address, size_t bytes, unsigned flags))
DOES_NOTHING(cudaHostUnregister(void *address))
DOES_NOTHING(cudaStreamQuery(cudaStream_t stream))
DOES_NOTHING(cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags))
DOES_NOTHING(cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode))
DOES_NOTHING(cudaEventDestroy(cudaEvent_t event))
DOES_NOTHING(cudaEventQuery(cudaEvent_t event))
DOES_NOTHING(cudaFuncSetAttribute(const void *f, enum cudaFuncAttribute attribute, int value))
DOES_NOTHING(cudaMemcpyToSymbol(const void *to, const void *from, size_t bytes, size_t offset, enum cudaMemcpyKind kind))

static cudaError_t make(void **handle) {
    *handle = calloc(1, 4096);
    return cudaSuccess;
}
/* An event knows how many kernels were launched before it. */
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    *(long *)event = pretended_launches;
    return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) { return cudaEventRecord(event, stream); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    pretended_synchronisations++, pretended_drains += *(long *)event == pretended_launches;
    return pretended_error;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) { return make((void **)stream); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return make((void **)stream); }
cudaError_t cudaEventCreate(cudaEvent_t *event) { return make((void **)event); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) { return make((void **)event); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end) { *ms = 1; return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) { *status = 0; return cudaSuccess; }
cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id, cudaGraph_t *graph,
    const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges, size_t *count) {
    *status = 0;
    return cudaSuccess;
}

/* The device: an H100's numbers. */

cudaError_t cudaGetDeviceCount(int *count) { *count = devices(); return cudaSuccess; }
cudaError_t cudaGetDevice(int *device) { *device = current_device; return cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
    if (device >= devices()) return cudaErrorInvalidDevice;
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { *version = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
    memset(found, 0, sizeof *found);
    strcpy(found->name, "Pretended GPU");
    found->uuid.bytes[0] = device + 1;
    found->totalGlobalMem = device_bytes();
    found->major = 9, found->minor = 0;
    found->multiProcessorCount = 132, found->warpSize = 32;
    found->maxThreadsPerBlock = 1024, found->maxThreadsPerMultiProcessor = 2048, found->maxBlocksPerMultiProcessor = 32;
    found->sharedMemPerBlock = 49152, found->sharedMemPerBlockOptin = 232448, found->sharedMemPerMultiprocessor = 233472;
    found->regsPerBlock = found->regsPerMultiprocessor = 65536;
    found->maxGridSize[0] = 2147483647, found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024, found->maxThreadsDim[2] = 64;
    found->l2CacheSize = 50 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp device_facts;
    cudaGetDeviceProperties(&device_facts, device);
    switch (attribute) {
        case cudaDevAttrComputeCapabilityMajor: *value = device_facts.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = device_facts.minor; break;
        case cudaDevAttrMultiProcessorCount: *value = device_facts.multiProcessorCount; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = device_facts.sharedMemPerBlockOptin; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = device_facts.sharedMemPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = device_facts.sharedMemPerMultiprocessor; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = device_facts.maxThreadsPerMultiProcessor; break;
        case cudaDevAttrMaxThreadsPerBlock: *value = device_facts.maxThreadsPerBlock; break;
        case cudaDevAttrMaxGridDimX: *value = device_facts.maxGridSize[0]; break;
        case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: *value = device_facts.maxGridSize[1]; break;
        case cudaDevAttrWarpSize: *value = device_facts.warpSize; break;
        default: *value = 1;
    }
    return cudaSuccess;
}
cudaError_t __cudaGetKernel(void **kernel, const void *f) { *kernel = (void *)f; return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *f) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024, found->numRegs = 32, found->binaryVersion = found->ptxVersion = 90;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks_found, const void *f, int block, size_t shared, unsigned flags) {
    *blocks_found = 2;
    return cudaSuccess;
}
