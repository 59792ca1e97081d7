# The Homebrew formula: `make dist` fills in what stands between @ and writes dist/baa.rb, for a tap.
class Baa < Formula
  desc "Small tools that keep daemons honest: reload, wait, run, watch, lead"
  homepage "@REPOSITORY@"
  url "@REPOSITORY@/releases/download/v@VERSION@/baa-@VERSION@.tar.gz"
  sha256 "@SHA256@"
  license "MIT"

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args
    man1.install Dir["man/*.1"]
    man7.install Dir["man/*.7"]
    Dir["completions/_baa-*"].each { |script| zsh_completion.install script }
    Dir["completions/*.bash"].each { |script| bash_completion.install script => File.basename(script, ".bash") }
    Dir["completions/*.fish"].each { |script| fish_completion.install script }
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/baa-run --version")
    system bin/"baa-run", "--restart", "never", "--", "/usr/bin/true"
    # 124: it waited, and nobody came.
    shell_output("#{bin}/baa-healthwait --timeout 100ms tcp://127.0.0.1:1", 124)
  end
end
