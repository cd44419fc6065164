//go:build cuda && linux && amd64

package late

// #cgo LDFLAGS: -L${SRCDIR}/lib -ldl
// #include <stdlib.h>
// int late_open(const char *path, const char **why, int *code);
import "C"

import (
	"fmt"
	"unsafe"
)

// InitError is the code that a driver's cuInit returned.
type InitError int

func (e InitError) Error() string { return fmt.Sprintf("cuInit returned %d", int(e)) }

// Open binds every function to the library at path, which the dynamic loader searches
// for when it has no slash, and initialises it. It returns an InitError when the
// library is there and refuses. Calls must not overlap, nor run beside any use of the
// driver; a second one that succeeds binds every function anew.
func Open(path string) error {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var why *C.char
	var code C.int
	if C.late_open(name, &why, &code) != 0 {
		return fmt.Errorf("%s", C.GoString(why))
	}
	if code != 0 {
		return InitError(code)
	}
	return nil
}
