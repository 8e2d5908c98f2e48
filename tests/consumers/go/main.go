// SPDX-License-Identifier: MIT
// lowbit from Go: y = x w^T with w = 1 in 4 bits, exactly.
package main

// #cgo pkg-config: lowbit-c
// #include <lowbit.h>
import "C"

import (
	"fmt"
	"os"
	"unsafe"
)

func check(status C.lowbit_status) {
	if status != C.LOWBIT_OK {
		fmt.Println("lowbit:", C.GoString(C.lowbit_last_error_message()))
		os.Exit(1)
	}
}

func main() {
	const n = 64
	var w [n * n]float32
	var x, y [n]float32
	for i := range x {
		w[i*n+i] = 1
		x[i] = float32(i - 31)
	}
	var tensor *C.lowbit_tensor
	var layer *C.lowbit_linear
	check(C.lowbit_quantize(C.LOWBIT_NF4, (*C.float)(&w[0]), n, n, 0, 1, &tensor))
	defer C.lowbit_tensor_free(tensor)
	check(C.lowbit_linear_create(tensor, nil, C.LOWBIT_COMPUTE_F32, 1, &layer))
	defer C.lowbit_linear_free(layer)
	check(C.lowbit_multiply(layer, C.LOWBIT_F32, unsafe.Pointer(&x[0]), 1, 0, C.LOWBIT_F32, unsafe.Pointer(&y[0]), 0,
		C.LOWBIT_ACTIVATION_NONE, nil))
	if x != y {
		fmt.Println("WRONG")
		os.Exit(1)
	}
	fmt.Println("lowbit", C.GoString(C.lowbit_version()), "from Go: right")
}
