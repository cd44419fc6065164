package cpu

import "testing"

// Paths returns the names of the paths that this machine can run, the fastest first.
func Paths() []string {
	var names []string
	for _, p := range allPaths() {
		names = append(names, p.name)
	}
	return names
}

// Halves returns the names of the ways to multiply bf16 values that this machine has.
func Halves() []string {
	var names []string
	for _, h := range halves() {
		names = append(names, h.name)
	}
	return names
}

// EachHalf runs f for each of Halves, and skips where there is none.
func EachHalf(t *testing.T, f func(t *testing.T, half string)) {
	t.Helper()
	eachHalf(t, func(t *testing.T, h *half) { f(t, h.name) })
}

// NewBF16 is New on the first path in bf16 by one of Halves.
func NewBF16(threads int, name string) (*Device, error) {
	for _, h := range halves() {
		if h.name == name {
			return newDevice(threads, allPaths()[0], h)
		}
	}
	panic("kernels: no way to multiply bf16 named " + name)
}

// NewOn is New in float32 on a path that Paths named.
func NewOn(threads int, name string) (*Device, error) {
	for _, p := range allPaths() {
		if p.name == name {
			return newDevice(threads, p, nil)
		}
	}
	panic("kernels: no path " + name)
}
