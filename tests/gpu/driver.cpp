// A driver of a card that is the emulator: what the step asks of NVIDIA's libcuda, under the same names. The environment
// says what it finds: FAKE_VERSION, FAKE_CARDS, FAKE_CAPABILITY, FAKE_FREE.
#define EXPORT extern "C" __attribute__((visibility("default")))

static long setting(const char* name, long otherwise) {
    const char* text = getenv(name);
    return text ? atol(text) : otherwise;
}
enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

EXPORT int cuInit(unsigned) { return setting("FAKE_CARDS", 1) > 0 ? SUCCESS : NO_DEVICE; }
EXPORT int cuDriverGetVersion(int* version) { *version = (int)setting("FAKE_VERSION", 12020); return SUCCESS; }
EXPORT int cuDeviceGetCount(int* count) { *count = (int)setting("FAKE_CARDS", 1); return SUCCESS; }
EXPORT int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal < setting("FAKE_CARDS", 1) ? SUCCESS : INVALID_DEVICE; }
EXPORT int cuDeviceGetName(char* name, int length, int) { snprintf(name, (size_t)length, "an emulated card"); return SUCCESS; }
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int) {
    long capability = setting("FAKE_CAPABILITY", 80);
    *value = (int)(attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : 0); // major, minor
    return SUCCESS;
}
static thread_local void* entered;
static char context;
EXPORT int cuDevicePrimaryCtxRetain(void** out, int) { *out = &context; return SUCCESS; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
EXPORT int cuCtxSetCurrent(void* given) { entered = given; return given == &context ? SUCCESS : 201; }
// Whatever else is asked must come from a thread that has entered the context.
#define ENTERED if (!entered) return 201

static long allocated;
EXPORT int cuMemGetInfo_v2(size_t* free, size_t* total) { ENTERED; *free = *total = (size_t)setting("FAKE_FREE", 1l << 40); return SUCCESS; }
EXPORT int cuMemAlloc_v2(uint64_t* out, size_t bytes) {
    ENTERED;
    void* p = malloc(bytes);
    if (!p) return OUT_OF_MEMORY;
    memset(p, 0xCD, bytes);
    allocated++;
    *out = (uint64_t)p;
    return SUCCESS;
}
EXPORT int cuMemFree_v2(uint64_t address) { ENTERED; free((void*)address); allocated--; return SUCCESS; }
EXPORT int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) { ENTERED; memcpy((void*)to, from, bytes); return SUCCESS; }
EXPORT int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) { ENTERED; memcpy(to, (void*)from, bytes); return SUCCESS; }
EXPORT int cuMemsetD8_v2(uint64_t to, unsigned char byte, size_t bytes) { ENTERED; memset((void*)to, byte, bytes); return SUCCESS; }

// A module is its PTX: a function is found only where that has it.
EXPORT int cuModuleLoadData(void** module, const void* image) { ENTERED; *module = strdup((const char*)image); return SUCCESS; }
EXPORT int cuModuleGetFunction(void** function, void* module, const char* name) {
    ENTERED;
    char entry[128];
    snprintf(entry, sizeof entry, ".visible .entry %s(", name);
    if (!strstr((const char*)module, entry)) return NOT_FOUND;
    for (const auto& e : entries) if (!strcmp(e.name, name)) { *function = (void*)&e; return SUCCESS; }
    return NOT_FOUND;
}
EXPORT int cuFuncSetAttribute(void*, int, int) { ENTERED; return SUCCESS; }
static struct Launched { long kernels = 0; ~Launched() { fprintf(stderr, "%ld kernels launched, %ld arrays left\n", kernels, allocated); } } launched;
EXPORT int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block, unsigned, unsigned, unsigned shared, void*, void** p, void**) {
    ENTERED;
    static uint64_t seed = 1;
    launched.kernels++;
    const unsigned grid[] = {x, y, z};
    const char* failure = emulator::launch(*(const emulator::Entry*)function, grid, block, shared, p, nullptr, 0, seed++);
    if (failure) fprintf(stderr, "%s: %s\n", ((const emulator::Entry*)function)->name, failure);
    return failure ? LAUNCH_FAILED : SUCCESS;
}
EXPORT int cuGetErrorString(int error, const char** out) { *out = error == LAUNCH_FAILED ? "a kernel failed" : "an error of the emulated driver"; return SUCCESS; }
EXPORT int cuGetErrorName(int, const char** out) { *out = "EMULATED"; return SUCCESS; }
