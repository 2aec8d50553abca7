#!/usr/bin/env bash
# Fuzzes every target, or those that are named, for $SECONDS_EACH seconds each. Needs nothing but the stable compiler and a
# C++ compiler. What is found lies in fuzz/artifacts, what was learnt in fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")"

echo "seeds, from a run of the program"
FUZZ_SEEDS=$PWD/corpus cargo test --quiet --manifest-path ../Cargo.toml -p lifeboat --test fuzz_decoders

# As `cargo fuzz` does it: the compiler counts which edges are taken, libFuzzer looks at the counts.
coverage=(-Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
	coverage+=("-Cllvm-args=-sanitizer-coverage-$option")
done
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 ${coverage[*]}"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
	for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi
for target in "${targets[@]}"; do
	echo "$target, ${SECONDS_EACH:-60} s"
	mkdir -p "artifacts/$target"
	cargo run --quiet --locked --release --bin "$target" -- -max_total_time="${SECONDS_EACH:-60}" -timeout=10 \
		-rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="artifacts/$target/" "corpus/$target" 2>&1 | tail -n 12
done
