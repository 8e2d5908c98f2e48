// SPDX-License-Identifier: MIT
// lowbit from Rust: y = x w^T with w = 1 in 4 bits, exactly.
use std::ffi::CStr;
use std::os::raw::{c_char, c_void};
use std::ptr::{null, null_mut};

#[repr(C)]
struct Tensor([u8; 0]);
#[repr(C)]
struct Linear([u8; 0]);

const NF4: i32 = 4;
const F32: i32 = 0;
const COMPUTE_F32: i32 = 0;

extern "C" {
    fn lowbit_last_error_message() -> *const c_char;
    fn lowbit_quantize(
        format: i32, w: *const f32, rows: usize, cols: usize, block_size: usize, double_quantized: i32, out: *mut *mut Tensor,
    ) -> i32;
    fn lowbit_tensor_free(tensor: *mut Tensor);
    fn lowbit_linear_create(weights: *const Tensor, bias: *const f32, compute: i32, pack: i32, out: *mut *mut Linear) -> i32;
    fn lowbit_multiply(
        layer: *const Linear, x_type: i32, x: *const c_void, m: usize, x_stride: usize, y_type: i32, y: *mut c_void,
        y_stride: usize, activation: i32, pool: *mut c_void,
    ) -> i32;
    fn lowbit_linear_free(layer: *mut Linear);
}

fn check(status: i32) {
    if status != 0 {
        panic!("lowbit: {}", unsafe { CStr::from_ptr(lowbit_last_error_message()) }.to_string_lossy());
    }
}

fn main() {
    const N: usize = 64;
    let mut w = vec![0f32; N * N];
    let x: Vec<f32> = (0..N).map(|i| i as f32 - 31.0).collect();
    let mut y = vec![0f32; N];
    for i in 0..N {
        w[i * N + i] = 1.0;
    }
    let mut tensor: *mut Tensor = null_mut();
    let mut layer: *mut Linear = null_mut();
    unsafe {
        check(lowbit_quantize(NF4, w.as_ptr(), N, N, 0, 1, &mut tensor));
        check(lowbit_linear_create(tensor, null(), COMPUTE_F32, 1, &mut layer));
        lowbit_tensor_free(tensor);
        check(lowbit_multiply(layer, F32, x.as_ptr().cast(), 1, 0, F32, y.as_mut_ptr().cast(), 0, 0, null_mut()));
        lowbit_linear_free(layer);
    }
    assert_eq!(x, y);
    println!("lowbit from Rust: right");
}
