.PHONY: test race fuzz bench asm lint emulate e2e chaos

test:
	go test ./...

race:
	go test -race ./...

# Every fuzz target for a short while; TIME=5m searches longer.
TIME ?= 10s
fuzz:
	@for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(TIME) $$p || exit 1; \
		done; \
	done

bench:
	go test -run '^$$' -bench . ./...

# The committed assembly is what its generator writes.
asm:
	go generate ./kernels
	git diff --exit-code kernels
	go test -C kernels/_asm ./...

# The kernels on processors that this machine is not, emulated by qemu-user: NEON, AVX2
# without AVX-512, and neither. Each run names the paths it must find. /proc/cpuinfo
# still shows this machine's processor, so no amd64 run compares with it.
EMULATE = CGO_ENABLED=0 GOOS=linux GOAMD64=v1 go test -short -count 1 -exec
HASWELL = qemu-x86_64 -cpu Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid
emulate:
	GOARCH=arm64 LOCO_REQUIRE_PATHS='NEON,Go with FMA,plain Go' $(EMULATE) qemu-aarch64 ./kernels
	GOARCH=amd64 LOCO_REQUIRE_PATHS='AVX2,plain Go' $(EMULATE) '$(HASWELL)' \
		-run 'RequirePaths|Agree|Greatest|Turn|TestSameBits' ./kernels
	GOARCH=amd64 LOCO_REQUIRE_PATHS='plain Go' $(EMULATE) 'qemu-x86_64 -cpu Nehalem' \
		-run 'RequirePaths|TestSameBits|StepBits|Fuse|Exp|Log' ./kernels

lint:
	test -z "$$(gofmt -l .)"
	go vet ./...
	go vet -tags noasm ./...
	GOARCH=arm64 go vet ./kernels/... ./optim/... ./trainer/... ./bench
	go run honnef.co/go/tools/cmd/staticcheck@v0.7.0 ./...

# Real processes over real libp2p; minutes.
e2e:
	go test -timeout 20m -count 1 -run E2E -skip Chaos ./cmd/loco -e2e

# Real processes in network namespaces, killed, stopped and cut off for 2 minutes, and two
# more runs of 20 s. Needs root on Linux, /dev/net/tun, and ip and tc of iproute2.
chaos:
	go test -timeout 20m -count 1 -v -run Namespace ./mesh/netem
	go test -timeout 20m -count 1 -v -run E2EChaos ./cmd/loco -e2e
