/* SPDX-License-Identifier: MIT */
/* The smallest use of lowbit from C: y = x w^T with w = 1 in 4 bits, exactly. */
#include <stdio.h>

#include <lowbit.h>

int main(void) {
  enum { n = 64 };
  static float w[n * n], x[n], y[n];
  lowbit_tensor* tensor = NULL;
  lowbit_linear* layer = NULL;
  lowbit_status status;
  int i;
  for (i = 0; i < n; ++i) {
    w[i * n + i] = 1.0f;
    x[i] = (float)(i - 31);
  }
  status = lowbit_quantize(LOWBIT_NF4, w, n, n, 0, 1, &tensor);
  if (status == LOWBIT_OK) status = lowbit_linear_create(tensor, NULL, LOWBIT_COMPUTE_F32, 1, &layer);
  lowbit_tensor_free(tensor);
  if (status == LOWBIT_OK)
    status = lowbit_multiply(layer, LOWBIT_F32, x, 1, 0, LOWBIT_F32, y, 0, LOWBIT_ACTIVATION_NONE, NULL);
  lowbit_linear_free(layer);
  if (status != LOWBIT_OK) {
    printf("lowbit: %s\n", lowbit_last_error_message());
    return 1;
  }
  for (i = 0; i < n; ++i)
    if (y[i] != x[i]) return 1;
  printf("lowbit %s from C: right\n", lowbit_version());
  return 0;
}
