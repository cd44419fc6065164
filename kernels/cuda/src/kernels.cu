// All kernels, in one module.
#include "vectors.cu"
#include "layers.cu"
#include "codec.cu"
#include "hash.cu"
#include "gemm.cu"
#include "attention.cu"
#include "attention_float.cu"
