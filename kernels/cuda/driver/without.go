//go:build !cuda || !linux || !amd64

package driver

// Load says that there is no CUDA in this binary.
func Load(string) error { return ErrWithout }

// Present says that there is no CUDA in this binary.
func Present() ([]Info, error) { return nil, ErrWithout }

// Devices says that there is no CUDA in this binary.
func Devices() ([]Info, error) { return nil, ErrWithout }
