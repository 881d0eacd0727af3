/* A CUDA driver without a card, for tests: libcuda.so.1 with the functions that gitbench asks for.

FAKE_CUDA lists the cards, ";" between them: "name,uuid,total MiB,free MiB,major,minor,compute mode,mps", the fastest first;
PCI_BUS_ID is the reverse order. FAKE_CUDA_CODE: what cuInit returns instead. FAKE_CUDA_LOG: a file to which each cuInit adds
its process id. As the real driver, it works in no process whose parent had started it, and shows what CUDA_VISIBLE_DEVICES
names (indices, uuids or their beginnings) until the first name that is none. Where NVIDIA's header is found, the compiler
checks every signature and struct against it. Loaded by LD_PRELOAD, it also stands in for the CUDA runtime's count of devices. */
#if __has_include(<cuda.h>)
#include <cuda.h>
#else
#include <stddef.h>
typedef int CUresult, CUdevice, CUdevice_attribute;
typedef struct CUctx_st *CUcontext;
typedef struct { char bytes[16]; } CUuuid;
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct card { char name[100], uuid[60]; double total, free; int major, minor, mode, mps; };
static struct card cards[16], seen[16];
static int count = -1, owner;

static int find(const char *name, int all) {
    int found = -1;
    if (strncmp(name, "GPU-", 4) && strncmp(name, "MIG-", 4))
        return name[0] >= '0' && name[0] <= '9' && atoi(name) < all ? atoi(name) : -1;
    for (int i = 0; i < all; i++)
        if (!strncmp(cards[i].uuid, name, strlen(name))) {
            if (found >= 0) return -1; /* two begin so */
            found = i;
        }
    return found;
}

CUresult cuInit(unsigned int flags) {
    char *list = getenv("FAKE_CUDA"), *log = getenv("FAKE_CUDA_LOG"), *code = getenv("FAKE_CUDA_CODE");
    const char *order = getenv("CUDA_DEVICE_ORDER"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    int all = 0;
    if (log) {
        FILE *file = fopen(log, "a");
        fprintf(file, "%d\n", getpid());
        fclose(file);
    }
    if (code) return atoi(code);
    if (count >= 0) return owner == getpid() ? 0 : 3; /* CUDA_ERROR_NOT_INITIALIZED: a fork */
    owner = getpid();
    list = strdup(list ? list : "");
    for (char *next, *one = strtok_r(list, ";", &next); one; one = strtok_r(NULL, ";", &next)) {
        struct card *c = &cards[all++];
        sscanf(one, "%99[^,],%59[^,],%lf,%lf,%d,%d,%d,%d", c->name, c->uuid, &c->total, &c->free, &c->major, &c->minor,
               &c->mode, &c->mps);
    }
    if (order && !strcmp(order, "PCI_BUS_ID"))
        for (int i = 0; i < all / 2; i++) {
            struct card kept = cards[i];
            cards[i] = cards[all - 1 - i];
            cards[all - 1 - i] = kept;
        }
    count = 0;
    if (!visible)
        for (; count < all; count++) seen[count] = cards[count];
    else {
        char *names = strdup(visible);
        for (char *next, *one = strtok_r(names, ",", &next); one; one = strtok_r(NULL, ",", &next)) {
            int place = find(one, all);
            if (place < 0) break;
            seen[count++] = cards[place];
        }
    }
    return count ? 0 : 100; /* CUDA_ERROR_NO_DEVICE */
}

CUresult cuDeviceGetCount(int *found) { return *found = count, 0; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { return *device = ordinal, 0; }
CUresult cuDeviceGetName(char *name, int length, CUdevice device) { return snprintf(name, length, "%s", seen[device].name), 0; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) { return *bytes = seen[device].total * 1024 * 1024, 0; }

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    const char *text = seen[device].uuid + 4; /* after "GPU-" */
    for (int i = 0; i < 16; i++, text += 2) {
        unsigned int byte;
        if (*text == '-') text++;
        sscanf(text, "%2x", &byte);
        uuid->bytes[i] = byte;
    }
    return 0;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
    const struct card *c = &seen[device];
    *value = which == 75 ? c->major : which == 76 ? c->minor : which == 20 ? c->mode : c->mps;
    return which == 75 || which == 76 || which == 20 || which == 133 ? 0 : 1;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    if (seen[device].free == 0) return 46; /* CUDA_ERROR_DEVICE_UNAVAILABLE: another process holds it */
    return *context = (CUcontext)&seen[device], 0;
}
static const struct card *current;
CUresult cuCtxSetCurrent(CUcontext context) { return current = (const struct card *)context, 0; }
CUresult cuMemGetInfo_v2(size_t *bytes, size_t *total) {
    *bytes = current->free * 1024 * 1024, *total = current->total * 1024 * 1024;
    return 0;
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { return current = NULL, 0; }

CUresult cuGetErrorName(CUresult code, const char **name) {
    *name = code == 100   ? "CUDA_ERROR_NO_DEVICE"
            : code == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
            : code == 34  ? "CUDA_ERROR_STUB_LIBRARY"
                          : "CUDA_ERROR_UNKNOWN";
    return 0;
}

int cudaGetDeviceCount(int *found) { /* of the runtime, which torch asks */
    int code = cuInit(0);
    *found = code ? 0 : count;
    return code == 3 ? 3 : code;
}
