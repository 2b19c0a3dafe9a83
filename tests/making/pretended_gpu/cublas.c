/* cuBLAS as torch calls it: products are launches like others. Results of a call are not looked at, so arguments need no types. */

#include <stdlib.h>

extern long pretended_launches, pretended_error;

#define DOES_NOTHING(name) int name(void) { return 0; }
#define LAUNCHES(name) int name(void) { pretended_launches++; return pretended_error; }
#define MAKES(name) int name(void **made) { *made = calloc(1, 4096); return 0; }
#define TELLS_ZERO(name) int name(void *handle, int *value) { *value = 0; return 0; }

MAKES(cublasCreate_v2)
MAKES(cublasLtMatmulDescCreate)
MAKES(cublasLtMatrixLayoutCreate)
MAKES(cublasLtMatmulPreferenceCreate)
TELLS_ZERO(cublasGetMathMode)
TELLS_ZERO(cublasGetPointerMode_v2)

DOES_NOTHING(cublasDestroy_v2)
DOES_NOTHING(cublasSetStream_v2)
DOES_NOTHING(cublasSetWorkspace_v2)
DOES_NOTHING(cublasSetMathMode)
DOES_NOTHING(cublasSetPointerMode_v2)
DOES_NOTHING(cublasSetSmCountTarget)
DOES_NOTHING(cublasLtMatmulDescDestroy)
DOES_NOTHING(cublasLtMatmulDescSetAttribute)
DOES_NOTHING(cublasLtMatrixLayoutDestroy)
DOES_NOTHING(cublasLtMatrixLayoutSetAttribute)
DOES_NOTHING(cublasLtMatmulPreferenceDestroy)
DOES_NOTHING(cublasLtMatmulPreferenceSetAttribute)

int cublasLtMatmulAlgoGetHeuristic(
    void *handle, void *product, void *a, void *b, void *c, void *d, void *preference, int wanted, void *found, int *count) {
    *count = 1;
    return 0;
}

LAUNCHES(cublasLtMatmul)
LAUNCHES(cublasGemmEx)
LAUNCHES(cublasGemmStridedBatchedEx)
LAUNCHES(cublasSgemm_v2)
LAUNCHES(cublasDgemm_v2)
LAUNCHES(cublasSgemmEx)
LAUNCHES(cublasSgemmStridedBatched)
LAUNCHES(cublasDgemmStridedBatched)
LAUNCHES(cublasSgemv_v2)
LAUNCHES(cublasDgemv_v2)
LAUNCHES(cublasSdot_v2)
LAUNCHES(cublasDdot_v2)
LAUNCHES(cublasDotEx)
