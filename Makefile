# baa: small tools that keep daemons honest. `make help` lists the targets.

# The next line is a directive to BSD's make, and a rule that nobody asks for to GNU's.
.error : this Makefile is for GNU make, which may be called gmake here

PREFIX  ?= /usr/local
DESTDIR ?=
# Where shells look. fish on Linux does not look below /usr/local unless XDG_DATA_DIRS says so; Debian's zsh has a name of its own.
COMPLETE_BASH ?= $(PREFIX)/share/bash-completion/completions
COMPLETE_ZSH  ?= $(if $(and $(filter /usr,$(PREFIX)),$(wildcard /etc/debian_version)),/usr/share/zsh/vendor-completions,$(PREFIX)/share/zsh/site-functions)
COMPLETE_FISH ?= $(if $(and $(filter /usr/local,$(PREFIX)),$(filter Linux,$(shell uname -s))),/etc/fish/completions,$(PREFIX)/share/fish/vendor_completions.d)
CARGO   ?= cargo

PROGRAMS := $(notdir $(wildcard bins/*))
SOURCES  := Cargo.toml Cargo.lock $(shell find bins lib -type f)
HOST     := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
ARCH     := $(firstword $(subst -, ,$(HOST)))
# What is built for: on Linux musl, so that the programs are static and load no modules, where this toolchain has its std
# (`rustup target add`) and there is a C compiler for it (Debian: musl-tools); else the machine's own libc, dynamically.
# Never a static glibc: its first look-up of a user loads modules into the program, which crash it. TARGET=… decides otherwise.
STD      := $(wildcard $(shell rustc --print sysroot 2>/dev/null)/lib/rustlib/$(ARCH)-unknown-linux-musl/lib/libstd-*.rlib)
MUSL_CC  := $(if $(HOST),$(shell command -v $(ARCH)-linux-musl-gcc || command -v musl-gcc))
TARGET   ?= $(if $(and $(findstring linux,$(HOST)),$(STD),$(MUSL_CC)),$(ARCH)-unknown-linux-musl,$(HOST))
BUILT     = target/$(TARGET)/release
# The programs hold no names of the builder's directories. (RUSTFLAGS knows no spaces.)
CRATES   := $(or $(CARGO_HOME),$(HOME)/.cargo)
REMAP    := $(if $(filter 2,$(words $(CURDIR) $(CRATES))),--remap-path-prefix=$(CRATES)=/cargo --remap-path-prefix=$(CURDIR)=/baa)
# (In target/, whatever CARGO_TARGET_DIR or a configuration of cargo says: install looks for it there.)
BUILD     = RUSTFLAGS="$(strip $(RUSTFLAGS) $(REMAP))" $(CARGO) build --locked --target-dir target --target $(TARGET) --release --bins
# The programs under test.
BAA_BIN  ?= $(BUILT)
# What the image is for.
IMAGE    ?= x86_64 aarch64

.PHONY: all build programs demo test test-musl fuzz mutants lint bench mac-report install uninstall artefacts completions man check docs check-macos dist deb image packages same-bytes clean help toolchain

all: build

toolchain:
	@command -v $(CARGO) > /dev/null && command -v rustc > /dev/null || { echo "Rust is missing (1.88 or later): install it with rustup, or on Debian: apt-get install rustc-web cargo-web" >&2; exit 69; }
	@command -v cc > /dev/null || { echo "a C compiler is missing; on Debian: apt-get install gcc libc6-dev" >&2; exit 69; }

build: toolchain ## build the programs, optimised; static (musl) where the toolchain can; needs Rust 1.88 or later and a C compiler
	$(BUILD)
	@echo $(BUILT) > target/built

# The user's build, for an install by somebody else (sudo), who may have no toolchain.
target/built: $(SOURCES)
	@command -v $(CARGO) > /dev/null || echo "what was built is older than the sources, or nothing was: run make as the user who has Rust first" >&2
	@$(MAKE) --no-print-directory build

# What is shown here is what the programs do, not how fast: they are built as cargo builds while one works on them, in a third of the time.
demo: toolchain ## build quickly, and run the main job: a service is reloaded, fails, recovers; needs what build does
	$(CARGO) build --locked --target-dir target --bin baa-reload --bin baa-run --bin baa-healthwait --bin baa-lease --example service
	@tests/demo/run target/debug

# BAA_REQUIRE_ALL=1: what a machine lacks is a failure then, and not a skip.
test: toolchain $(if $(filter $(BUILT),$(BAA_BIN)),build) ## test everything, with the programs that install would install, or those in BAA_BIN; needs what build does, and skips and names what needs more
	BAA_BIN=$(BAA_BIN) $(CARGO) test --locked --target-dir target --no-fail-fast $(if $(TESTS),--examples --test main -- $(TESTS))

test-musl: ## test the static programs as they ship; needs Debian's rustc-web, cargo-web, rust-web-src, python3-venv
	@.ci/musl
	$(MAKE) test BAA_BIN=target/musl/$(shell uname -m)-unknown-linux-musl/release

# The compiler counts what each case reaches (SanitizerCoverage, which every rustc has); one process for each parser, as many
# at a time as there are processors. What was found before is in target/fuzz, and is gone on with.
COUNTED  := -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 -C llvm-args=-sanitizer-coverage-inline-8bit-counters
FUZZ      = $(CARGO) test --locked --release --lib --target $(HOST) --target-dir target/fuzz/build --no-run --message-format=json
TIME     ?= 1m
fuzz: export RUSTFLAGS := $(RUSTFLAGS) $(COUNTED)
fuzz: toolchain ## throw foreign data at each parser; PART=a parser, TIME=1m for each, INPUT=a case that failed; needs what build does
	@program=$$($(FUZZ) | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p') && \
	list=$$("$$program" fuzz::targets::$(PART) --list --format terse | sed -n 's/: test$$//p') && \
	test -n "$$list" || { echo "there is no parser $(PART); tests/fuzz/targets.rs lists them" >&2; exit 66; } && \
	printf '%s\n' $$list | BAA_FUZZ_INPUT="$(INPUT)" BAA_FUZZ_TIME="$(TIME)" \
		xargs -P "$$(getconf _NPROCESSORS_ONLN)" -I {} "$$program" -q --exact {} --nocapture

# On a Mac; it says so elsewhere. The table of claims, and what each rests on: tests/launchctl/claims.
mac-report: build ## on a Mac: try what is believed of launchd, and the programs; writes one report into target/mac-report; needs what build does
	@tests/launchctl/mac-report -b $(BUILT) -o target/mac-report

# Which files, and why these: .cargo/mutants.toml.
mutants: toolchain ## change the decisions one by one and see that a test fails; needs cargo-mutants; FILE=a part of them
	@$(CARGO) mutants --version > /dev/null 2>&1 || { echo "cargo-mutants is missing: cargo install --locked cargo-mutants" >&2; exit 69; }
	$(CARGO) mutants --output target $(if $(FILE),--no-config --cargo-arg=--lib --file "$(FILE)")

lint: toolchain ## format, clippy, shell scripts, man pages; needs rustfmt and clippy; shellcheck, mandoc, zsh, fish if they are there
	@.ci/lint

check: lint test ## what must pass before a commit; needs what lint and test do

bench: toolchain ## figures of what ships, beside the dynamic build and peers, as ratios from one run; PART=start|reload|canary|keep|lease|control; needs what test-musl does
	RUSTFLAGS="$(strip $(RUSTFLAGS) $(REMAP))" $(CARGO) build --locked --target $(HOST) --release --bins --examples
	@.ci/musl
	@target/$(HOST)/release/examples/bench target/musl/$(ARCH)-unknown-linux-musl/release target/$(HOST)/release $(PART)

artefacts completions man: toolchain ## write completions, and the generated parts of pages and the book; needs what build does
	BAA_WRITE=1 $(CARGO) test --locked --test main -- artefacts:: docs::what_is_not_run > /dev/null

install: $(if $(FROM),,target/built) ## install what was built, as root perhaps, into $(DESTDIR)$(PREFIX); needs what build does if nothing is built; FROM=DIR: these programs
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/man/man1" "$(DESTDIR)$(PREFIX)/share/man/man7" \
		"$(DESTDIR)$(COMPLETE_BASH)" "$(DESTDIR)$(COMPLETE_ZSH)" "$(DESTDIR)$(COMPLETE_FISH)"
	for program in $(PROGRAMS); do \
		install -m 755 "$(or $(FROM),$$(cat target/built))/$$program" "$(DESTDIR)$(PREFIX)/bin/$$program" && \
		install -m 644 "man/$$program.1" "$(DESTDIR)$(PREFIX)/share/man/man1/$$program.1" && \
		install -m 644 "completions/$$program.bash" "$(DESTDIR)$(COMPLETE_BASH)/$$program" && \
		install -m 644 "completions/_$$program" "$(DESTDIR)$(COMPLETE_ZSH)/_$$program" && \
		install -m 644 "completions/$$program.fish" "$(DESTDIR)$(COMPLETE_FISH)/$$program.fish" || exit 1; \
	done
	install -m 644 man/baa.7 man/baa-cookbook.7 man/baa-hardening.7 "$(DESTDIR)$(PREFIX)/share/man/man7/"

uninstall: ## remove what install has put there; needs nothing
	for program in $(PROGRAMS); do \
		rm -f "$(DESTDIR)$(PREFIX)/bin/$$program" "$(DESTDIR)$(PREFIX)/share/man/man1/$$program.1" \
			"$(DESTDIR)$(COMPLETE_BASH)/$$program" "$(DESTDIR)$(COMPLETE_ZSH)/_$$program" \
			"$(DESTDIR)$(COMPLETE_FISH)/$$program.fish"; \
	done
	rm -f "$(DESTDIR)$(PREFIX)/share/man/man7/baa.7" "$(DESTDIR)$(PREFIX)/share/man/man7/baa-hardening.7" \
		"$(DESTDIR)$(PREFIX)/share/man/man7/baa-cookbook.7"

docs: toolchain ## the book, in target/docs/book; needs crates once, for mdbook, which it builds
	@.ci/docs

check-macos: ## type-check for both macOS targets; needs what test-musl does
	@.ci/check-macos

dist: ## archives, sums, SBOMs and the Homebrew formula, in dist/: static for Linux and, linked here and run nowhere, for macOS; needs what test-musl does, and cargo-cyclonedx, which it builds
	@.ci/dist $(PROGRAMS)

deb: ## the Debian package, in dist/; needs what test-musl does, and cargo-deb, which it builds
	@.ci/musl
	@packaging/deb $(ARCH) target/musl/$(ARCH)-unknown-linux-musl/release

image: ## an OCI image layout of baa-run and baa-healthwait, in dist/image; needs what test-musl does, and no daemon
	@.ci/musl $(IMAGE)
	@packaging/image dist/image $(foreach one,$(IMAGE),$(one)=target/musl/$(one)-unknown-linux-musl/release)

packages: ## all packages for this machine, tried in a fresh root; needs what deb does, and lintian
	@.ci/packages

same-bytes: ## build a program twice, in two homes, and see that the bytes are the same; needs what test-musl does
	@.ci/same-bytes

clean: ## remove what was built; needs cargo
	$(CARGO) clean
	rm -rf dist

help: ## list the targets, and what each needs; needs nothing
	@sed -n 's/^\([a-z -]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ what = $$2; for (n = 3; n <= NF; n++) what = what "|" $$n; printf "  %-26s  %s\n", $$1, what }'