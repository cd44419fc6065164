package kernels_test

import (
	"fmt"
	"math"
	"testing"

	"loco/kernels"
	"loco/kernels/cpu"
)

func TestShardsCoverAllValuesOnce(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 1000, 4096, 5_000_000} {
		for count := 1; count <= 9; count++ {
			at := 0
			for k := range count {
				lo, hi := kernels.Shard(n, count, k)
				if lo != at || hi < lo || lo%64 != 0 && lo != n {
					t.Fatalf("shard %d of %d of %d values is [%d, %d), the one before ends at %d", k, count, n, lo, hi, at)
				}
				at = hi
			}
			if at != n {
				t.Fatalf("%d shards of %d values end at %d", count, n, at)
			}
		}
	}
}

func TestHostPeersSum(t *testing.T) {
	for _, n := range []int{1, 70, 1000, 3<<20 + 5} {
		for count := 1; count <= 3; count++ {
			t.Run(fmt.Sprint(n, count), func(t *testing.T) { hostPeersSum(t, n, count) })
		}
	}
}

// hostPeersSum checks the sums and their order: float32 sums of three values differ by it.
func hostPeersSum(t *testing.T, n, count int) {
	devices, vectors, host := make([]kernels.Device, count), make([]kernels.Buffer, count), make([][]float32, count)
	for k := range count {
		d, err := cpu.New(1, kernels.FP32)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if vectors[k], err = d.Alloc(n); err != nil {
			t.Fatal(err)
		}
		devices[k], host[k] = d, make([]float32, n)
		for i := range host[k] {
			host[k][i] = 1 / float32(3+i%1000+7*k)
		}
		d.Upload(vectors[k], host[k])
	}
	p := kernels.NewHostPeers(devices)
	p.ReduceScatter(vectors)
	p.AllGather(vectors)
	want := make([]float32, n)
	for k := range count {
		lo, hi := kernels.Shard(n, count, k)
		for i := lo; i < hi; i++ {
			want[i] = host[k][i]
			for j := 1; j < count; j++ {
				want[i] += host[(k+j)%count][i]
			}
		}
	}
	for k, d := range devices {
		got := make([]float32, n)
		d.Download(got, vectors[k])
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("vector %d, value %d: %v, want %v", k, i, got[i], want[i])
			}
		}
	}
}

// Vector 0's bits, NaNs and all, are what the others have after a broadcast.
func TestHostPeersBroadcast(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1<<20 + 5} {
		var devices []kernels.Device
		var vectors []kernels.Buffer
		want := make([]float32, n)
		for i := range want {
			want[i] = math.Float32frombits(uint32(i)*2654435769 + 7)
		}
		for k := range 3 {
			d, err := cpu.New(1, kernels.FP32)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			v, err := d.Alloc(n)
			if err != nil {
				t.Fatal(err)
			}
			if k == 0 {
				d.Upload(v, want)
			}
			devices, vectors = append(devices, d), append(vectors, v)
		}
		kernels.NewHostPeers(devices).Broadcast(vectors)
		for k, d := range devices {
			got := make([]float32, n)
			d.Download(got, vectors[k])
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("vector %d, value %d of %d: %x, want %x", k, i, n, math.Float32bits(got[i]), math.Float32bits(want[i]))
				}
			}
		}
	}
}
