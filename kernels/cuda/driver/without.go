//go:build !cuda || !linux || !amd64

package driver

import "errors"

var errWithout = errors.New("cuda: this binary was built without CUDA: build it on linux/amd64 with -tags cuda (make cuda)")

// Load says that there is no CUDA in this binary.
func Load(string) error { return errWithout }

// Devices says that there is no CUDA in this binary.
func Devices() ([]Info, error) { return nil, errWithout }
