# baa: small tools that keep daemons honest. `make help` lists the targets.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

PROGRAMS := $(notdir $(wildcard bins/*))
HOST     := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# On Linux with glibc the programs are linked statically: a third less memory, and a faster start. Naming the target
# keeps the flag from the build's own macros, which must stay dynamic.
STATIC   := $(if $(findstring linux-gnu,$(HOST)),-C target-feature=+crt-static)
TARGET   := target/$(HOST)/release
BUILD     = RUSTFLAGS="$(strip $(RUSTFLAGS) $(STATIC))" $(CARGO) build --locked --target $(HOST)

.PHONY: all build demo test lint bench install uninstall artefacts completions man check check-macos dist clean help toolchain

all: build

toolchain:
	@command -v $(CARGO) > /dev/null && command -v rustc > /dev/null || { echo "Rust is missing (1.88 or later): install it with rustup, or on Debian: apt-get install rustc-web cargo-web" >&2; exit 69; }
	@command -v cc > /dev/null || { echo "a C compiler is missing; on Debian: apt-get install gcc libc6-dev" >&2; exit 69; }

build: toolchain ## build the programs, optimised
	$(BUILD) --release --bins

demo: toolchain ## run the main job: a service is reloaded, fails, recovers
	$(BUILD) --release --bins --example service
	@tests/demo/run $(TARGET)

test: toolchain ## test everything
	$(CARGO) test --locked

lint: toolchain ## format, clippy, shell scripts, man pages
	@.ci/lint

check: lint test ## what must pass before a commit

bench: toolchain ## figures beside those of peers, as ratios from one run
	$(BUILD) --release --bins --examples
	@$(TARGET)/examples/bench $(TARGET)

artefacts completions man: toolchain ## write completions, and the generated parts of pages and README
	BAA_WRITE=1 $(CARGO) test --locked --test main -- artefacts:: > /dev/null

install: build ## install into $(DESTDIR)$(PREFIX)
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/man/man1" "$(DESTDIR)$(PREFIX)/share/man/man7" \
		"$(DESTDIR)$(PREFIX)/share/bash-completion/completions" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions" "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	for program in $(PROGRAMS); do \
		install -m 755 "$(TARGET)/$$program" "$(DESTDIR)$(PREFIX)/bin/$$program" && \
		install -m 644 "man/$$program.1" "$(DESTDIR)$(PREFIX)/share/man/man1/$$program.1" && \
		install -m 644 "completions/$$program.bash" "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program" && \
		install -m 644 "completions/_$$program" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$program" && \
		install -m 644 "completions/$$program.fish" "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$program.fish" || exit 1; \
	done
	install -m 644 man/baa.7 "$(DESTDIR)$(PREFIX)/share/man/man7/baa.7"

uninstall: ## remove what install has put there
	for program in $(PROGRAMS); do \
		rm -f "$(DESTDIR)$(PREFIX)/bin/$$program" "$(DESTDIR)$(PREFIX)/share/man/man1/$$program.1" \
			"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$program" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$program" \
			"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$program.fish"; \
	done
	rm -f "$(DESTDIR)$(PREFIX)/share/man/man7/baa.7"

check-macos: ## type-check for both macOS targets
	@.ci/check-macos

dist: toolchain ## archives for Linux and, linked here and run nowhere, for macOS, in dist/
	RUSTFLAGS="$(STATIC)" $(CARGO) build --locked --target $(HOST) --profile dist --bins
	@.ci/dist $(HOST) $(PROGRAMS)

clean: ## remove what was built
	$(CARGO) clean
	rm -rf dist

help: ## list the targets
	@sed -n 's/^\([a-z -]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 28
