package cpu

import "unsafe"

// hugePage is the size of the pages that large buffers ask for, in values: 2 MiB.
const hugePage = 2 << 20 / 4

// floats returns n zeroed values. Many values begin at the boundary of a huge page, and
// the system is asked for such pages: products of large matrices touch more small ones
// than a processor remembers the places of, least of all in a virtual machine.
func floats(n int) []float32 {
	if n < hugePage {
		return make([]float32, n)
	}
	all := make([]float32, n+hugePage)
	skip := 0
	if past := int(uintptr(unsafe.Pointer(&all[0])) / 4 % hugePage); past > 0 {
		skip = hugePage - past
	}
	v := all[skip : skip+n : skip+n]
	whole := n / hugePage * hugePage
	adviseHuge(unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), 4*whole))
	return v
}
