package cpu

import "syscall"

// adviseHuge asks for huge pages. Where the system has none the memory works as well,
// only slower, so what it answers does not matter.
func adviseHuge(memory []byte) {
	const collapse = 25 // MADV_COLLAPSE, of Linux 6.1
	_ = syscall.Madvise(memory, syscall.MADV_HUGEPAGE)
	_ = syscall.Madvise(memory, collapse)
}
