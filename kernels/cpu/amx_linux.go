//go:build amd64 && !noasm

package cpu

import "syscall"

// allowTiles asks Linux for AMX's registers, which it gives to processes that ask:
// their state makes every signal's frame 8 kB larger.
func allowTiles() bool {
	const (
		request  = 0x1023 // ARCH_REQ_XCOMP_PERM
		tileData = 18     // XFEATURE_XTILEDATA
	)
	_, _, errno := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, request, tileData, 0)
	return errno == 0
}
