// Package late binds the CUDA driver when it is asked to, and not when the program
// starts, so that one binary runs on machines with an NVIDIA driver and without.
//
// gorgonia.org/cu links libcuda and calls cuInit before main; without a driver its
// program does not start. This package satisfies that link with an empty archive
// (lib/libcuda.a) and with one trampoline per function: an indirect jump through a
// slot, which is hidden, so that nothing outside the binary sees it and none needs a
// prototype. A slot holds a function that answers CUDA_ERROR_NOT_INITIALIZED until Open
// has found the function in a driver, and CUDA_ERROR_NOT_FOUND after it has not.
// cuInit itself succeeds and does nothing; Open calls the driver's.
//
// symbols.txt names the functions that cu v0.9.6 and package driver call, under the
// names that the headers of toolkits 11.8 to 13.0 give them. One that is missing stops
// the link, by name; add it there and run go generate.
//
// The code is for Linux on amd64, and built with -tags cuda only.
package late

//go:generate go run generate.go
