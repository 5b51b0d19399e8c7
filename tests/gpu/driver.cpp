// A driver of a card that is the emulator: what the step asks of NVIDIA's libcuda, under the same names. The environment
// says what it finds: FAKE_VERSION, FAKE_CARDS, FAKE_CAPABILITY, FAKE_FREE.
//
// Its card is as late as it may be: kernels and copies of the default stream are done when the host waits for them, and
// every other copy of another stream when the host or a kernel waits for its event; those between are done at once. So what
// is not waited for, memory that is used again too early, on either side, and a copy that overtakes its readers give wrong bits.
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#define EXPORT extern "C" __attribute__((visibility("default")))

static long setting(const char* name, long otherwise) {
    const char* text = getenv(name);
    return text ? atol(text) : otherwise;
}
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

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
// Whatever else is asked must come from a thread that has entered the context. Nothing works after a kernel has failed.
static std::mutex one_at_a_time;
static int broken = SUCCESS;
#define ENTERED std::lock_guard<std::mutex> alone(one_at_a_time); if (!entered || broken) return entered ? broken : 201

struct Stream {
    std::deque<std::function<void()>> asked;
    size_t done = 0;
    size_t end() const { return done + asked.size(); }
    void until(size_t end) { while (done < end) { auto work = std::move(asked.front()); asked.pop_front(); done++; work(); } }
};
struct Event { Stream* stream; size_t end; };
static Stream kernels, beside;
static long waits; // of the host for kernels
static int wait(Stream& stream) {
    if (&stream == &kernels && !stream.asked.empty()) waits++;
    stream.until(stream.end());
    return broken;
}
static int wait_all() { wait(beside); return wait(kernels); }
static Stream& named(void* stream) { return stream ? *(Stream*)stream : kernels; }
EXPORT int cuStreamCreate(void** out, unsigned flags) { ENTERED; *out = &beside; return flags == 1 ? SUCCESS : INVALID_VALUE; } // that the default stream does not wait for
EXPORT int cuStreamSynchronize(void* stream) { ENTERED; return wait(named(stream)); }
EXPORT int cuStreamWaitEvent(void* stream, void* event, unsigned) {
    ENTERED;
    Event of = *(Event*)event;
    if (of.stream) named(stream).asked.push_back([of] { of.stream->until(of.end); });
    return SUCCESS;
}
EXPORT int cuEventCreate(void** out, unsigned) { ENTERED; *out = new Event{nullptr, 0}; return SUCCESS; }
EXPORT int cuEventRecord(void* event, void* stream) { ENTERED; *(Event*)event = {&named(stream), named(stream).end()}; return SUCCESS; }
EXPORT int cuEventSynchronize(void* event) { ENTERED; Event of = *(Event*)event; if (of.stream) of.stream->until(of.end); return broken; }
EXPORT int cuEventDestroy_v2(void* event) { ENTERED; delete (Event*)event; return SUCCESS; }

static long allocated;
static std::map<char*, size_t> pinned;
static bool is_pinned(const void* p, size_t bytes) {
    auto after = pinned.upper_bound((char*)p);
    return after != pinned.begin() && (--after)->first + after->second >= (char*)p + bytes;
}
EXPORT int cuMemHostAlloc(void** out, size_t bytes, unsigned) { ENTERED; *out = malloc(bytes); pinned[(char*)*out] = bytes; allocated++; return SUCCESS; }
EXPORT int cuMemFreeHost(void* p) { ENTERED; wait_all(); pinned.erase((char*)p); free(p); allocated--; return SUCCESS; }
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
EXPORT int cuMemFree_v2(uint64_t address) { ENTERED; wait_all(); free((void*)address); allocated--; return SUCCESS; }
EXPORT int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) { ENTERED; wait(kernels); memcpy((void*)to, from, bytes); return broken; }
EXPORT int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) { ENTERED; wait(kernels); memcpy(to, (void*)from, bytes); return broken; }
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    ENTERED;
    static bool at_once = true;
    if (!is_pinned(from, bytes)) return INVALID_VALUE;
    named(stream).asked.push_back([=] { memcpy((void*)to, from, bytes); });
    if (stream && (at_once = !at_once)) wait(named(stream));
    return SUCCESS;
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    ENTERED;
    if (!is_pinned(to, bytes)) return INVALID_VALUE;
    named(stream).asked.push_back([=] { memcpy(to, (void*)from, bytes); });
    return SUCCESS;
}
EXPORT int cuMemsetD8Async(uint64_t to, unsigned char byte, size_t bytes, void* stream) {
    ENTERED;
    named(stream).asked.push_back([=] { memset((void*)to, byte, bytes); });
    return SUCCESS;
}

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
static struct Launched {
    long kernels = 0;
    ~Launched() { fprintf(stderr, "%ld kernels launched, %ld arrays left, %ld waits for kernels\n", kernels, allocated, waits); }
} launched;
static void run(const emulator::Entry& entry, const unsigned* grid, unsigned block, unsigned shared, emulator::Kept kept) {
    static uint64_t seed = 1;
    std::vector<void*> p;
    for (auto& argument : kept) p.push_back(argument.data());
    const char* failure = emulator::launch(entry, grid, block, shared, p.data(), nullptr, 0, seed++);
    if (failure) fprintf(stderr, "%s: %s\n", entry.name, failure), broken = LAUNCH_FAILED;
}
EXPORT int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block, unsigned, unsigned, unsigned shared, void* stream, void** p, void**) {
    ENTERED;
    const auto& entry = *(const emulator::Entry*)function;
    launched.kernels++;
    named(stream).asked.push_back([&entry, x, y, z, block, shared, kept = entry.keep(p)] {
        const unsigned grid[] = {x, y, z};
        run(entry, grid, block, shared, kept);
    });
    return SUCCESS;
}
EXPORT int cuGetErrorString(int error, const char** out) { *out = error == LAUNCH_FAILED ? "a kernel failed" : "an error of the emulated driver"; return SUCCESS; }
EXPORT int cuGetErrorName(int, const char** out) { *out = "EMULATED"; return SUCCESS; }
