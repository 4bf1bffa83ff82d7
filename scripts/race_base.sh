#!/usr/bin/env bash
# The race at size base with random weights, 28 tokens in and out: a timing and no quality.
# Usage: scripts/race_base.sh FOLDER [THREADS], in an environment with the extras `export` and `ct2`.
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
folder=$1 threads=${2:-1}
python "$scripts/random_checkpoints.py" --size base --vocab_size 32000 --length 28 --output_dir "$folder"

teacher=backend=ct2,max_new_tokens=28
systems=(
  "teacher_ct2_int8_greedy=$folder/teacher:$teacher,compute_type=int8"
  "teacher_ct2_float32_greedy=$folder/teacher:$teacher,compute_type=float32"
  "teacher_ct2_int8_beam5=$folder/teacher:$teacher,compute_type=int8,num_beams=5"
  "teacher_shallow_ct2_int8_greedy=$folder/teacher_shallow:$teacher,compute_type=int8"
  "teacher_deep_shallow_ct2_int8_greedy=$folder/teacher_deep_shallow:$teacher,compute_type=int8"
)
for name in vanilla_nat ctc_nat ctc_nat_deep_shallow da_transformer cmlm; do
  hf-nat export --model "$folder/$name" --output_dir "$folder/${name}_onnx" --quantize int8 \
    --sentences "$folder/sentences.txt" --max_samples 4
  rounds=
  if [ "$name" = cmlm ]; then rounds=,max_iterations=4; fi
  systems+=("${name}_onnx_int8=$folder/${name}_onnx:backend=onnx,quantize=int8$rounds")
done
OMP_NUM_THREADS=$threads python "$scripts/benchmark_decoding.py" --systems "${systems[@]}" \
  --sentences "$folder/sentences.txt" --threads "$threads" --num_sentences 128 --batch_sizes 1 16 64 --max_batches 12 \
  --repeats 2 --footprint --output "$folder/race_base.json"
