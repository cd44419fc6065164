package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Values of inner.device beside cuda:N.
const (
	Auto = "auto"
	CPU  = "cpu"
)

// deviceMax bounds the number of a GPU: no machine has as many.
const deviceMax = 255

// GPU is the number in an inner.device of the form cuda:N.
func (in Inner) GPU() (number int, ok bool) {
	text, ok := strings.CutPrefix(in.Device, "cuda:")
	if !ok {
		return 0, false
	}
	number, err := strconv.Atoi(text)
	return number, err == nil && number >= 0 && number <= deviceMax && strconv.Itoa(number) == text
}

func checkDevice(device string) string {
	if device == Auto || device == CPU {
		return ""
	}
	if _, ok := (Inner{Device: device}).GPU(); ok {
		return ""
	}
	return fmt.Sprintf("must be auto, cpu, or cuda:N with a number N from 0 to %d", deviceMax)
}

// checkShares says what keeps a batch from being cut into equal shares for the devices,
// and those into micro-batches.
func (c *Config) checkShares() string {
	devices := max(1, len(c.Inner.Devices))
	if c.Inner.Batch%devices != 0 {
		return fmt.Sprintf("inner.devices names %d devices, which must divide inner.batch = %d", devices, c.Inner.Batch)
	}
	if share := c.Inner.Batch / devices; share%c.MicroBatch() != 0 {
		if devices == 1 {
			return fmt.Sprintf("inner.micro_batch = %d must divide inner.batch = %d", c.Inner.MicroBatch, c.Inner.Batch)
		}
		return fmt.Sprintf("inner.micro_batch = %d must divide the %d sequences of a device, inner.batch = %d over %d devices", c.Inner.MicroBatch, share, c.Inner.Batch, devices)
	}
	return ""
}

// checkNumbers checks a list of devices' numbers.
func checkNumbers(numbers []int) string {
	seen := map[int]bool{}
	for _, n := range numbers {
		if n < 0 || n > deviceMax {
			return fmt.Sprintf("%d must be a number from 0 to %d", n, deviceMax)
		}
		if seen[n] {
			return fmt.Sprintf("names device %d twice", n)
		}
		seen[n] = true
	}
	return ""
}
