//go:build cuda && linux && amd64

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

// In trampolines_linux_amd64.S: the functions' names, each ended by a NUL and the list by
// an empty one, and a slot for each in the same order.
extern const char late_names[];
extern void *late_slots[];

static int not_initialized(void) { return 3; } // CUDA_ERROR_NOT_INITIALIZED
static int not_found(void) { return 500; }     // CUDA_ERROR_NOT_FOUND

__attribute__((constructor)) static void late_start(void) {
	void **slot = late_slots;
	for (const char *name = late_names; *name; name += strlen(name) + 1)
		*slot++ = (void *)not_initialized;
}

// gorgonia.org/cu calls this before main and ends the process when it fails.
__attribute__((visibility("hidden"))) int cuInit(unsigned flags) {
	(void)flags;
	return 0;
}

// late_open returns 0 and the driver's answer to cuInit in code, or -1 and the loader's
// message in why. Slots change only when the answer is 0.
int late_open(const char *path, const char **why, int *code) {
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		*why = dlerror();
		return -1;
	}
	int (*init)(unsigned) = (int (*)(unsigned))dlsym(lib, "cuInit");
	if (!init) {
		*why = "the library has no cuInit";
		return -1;
	}
	*code = init(0);
	if (*code)
		return 0;
	void **slot = late_slots;
	for (const char *name = late_names; *name; name += strlen(name) + 1) {
		void *found = dlsym(lib, name);
		*slot++ = found ? found : (void *)not_found;
	}
	return 0;
}
