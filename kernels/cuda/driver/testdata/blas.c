// A stand-in for cuBLAS: column-major products of bf16 in the host's memory, one by one, when the
// stream has come so far. Which stream is whose the stand-in for the driver knows.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct handle { void *stream; int (*synchronize)(void *); };

static int find_driver(struct dl_phdr_info *info, size_t size, void *to) {
	if (!strstr(info->dlpi_name, "libcuda.so")) return 0;
	void *driver = dlopen(info->dlpi_name, RTLD_NOW | RTLD_NOLOAD);
	*(void **)to = driver ? dlsym(driver, "cuStreamSynchronize") : NULL;
	return 1;
}

int cublasCreate_v2(void **h) {
	struct handle *made = calloc(1, sizeof *made);
	dl_iterate_phdr(find_driver, &made->synchronize);
	*h = made;
	return 0;
}
int cublasDestroy_v2(void *h) { free(h); return 0; }
int cublasGetVersion_v2(void *h, int *v) { *v = 120405; return 0; }
int cublasSetStream_v2(void *h, void *s) { ((struct handle *)h)->stream = s; return s ? 0 : 7; }
int cublasSetMathMode(void *h, int mode) { return mode == 16 ? 0 : 7; }
int cublasSetWorkspace_v2(void *h, void *p, size_t n) { return p && n >= 4 << 20 ? 0 : 7; }

static uint16_t narrow(float f) { uint32_t u; memcpy(&u, &f, 4); return (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16; }
static float wide(uint16_t x) { uint32_t u = (uint32_t)x << 16; float f; memcpy(&f, &u, 4); return f; }

int cublasGemmEx(void *h, int ta, int tb, int m, int n, int k, const float *alpha, const uint16_t *a, int at, int lda,
	const uint16_t *b, int bt, int ldb, const float *beta, void *c, int ct, int ldc, int compute, int algo) {
	if (at != 14 || bt != 14 || (ct != 0 && (ct != 14 || *beta)) || compute != 68) return 15;
	struct handle *own = h;
	if (own->synchronize && own->synchronize(own->stream)) return 14;
	for (int j = 0; j < n; j++)
		for (int i = 0; i < m; i++) {
			float sum = 0, *out = (float *)c + i + (size_t)j * ldc;
			for (int l = 0; l < k; l++)
				sum += wide(ta ? a[l + (size_t)i * lda] : a[i + (size_t)l * lda]) * wide(tb ? b[j + (size_t)l * ldb] : b[l + (size_t)j * ldb]);
			if (ct == 14)
				((uint16_t *)c)[i + (size_t)j * ldc] = narrow(*alpha * sum);
			else
				*out = *alpha * sum + (*beta ? *beta * *out : 0);
		}
	return 0;
}
