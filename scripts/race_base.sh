#!/usr/bin/env bash
# The race at size base with random weights, 28 tokens in and out: a timing and no quality.
# Usage: scripts/race_base.sh FOLDER [THREADS], in an environment with the extras `export`, `openvino` and `ct2`.
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
folder=$1 threads=${2:-1}
python "$scripts/random_checkpoints.py" --size base --vocab_size 32000 --length 28 --output_dir "$folder"

teacher=backend=ct2,max_new_tokens=28
systems=(
  "teacher_ct2_int8_greedy=$folder/teacher:$teacher,compute_type=int8"
  "teacher_ct2_float32_greedy=$folder/teacher:$teacher,compute_type=float32"
  "teacher_ct2_int8_beam5=$folder/teacher:$teacher,compute_type=int8,num_beams=5"
  "at_6-1_ct2_int8_greedy=$folder/teacher_shallow:$teacher,compute_type=int8"
  "at_11-1_ct2_int8_greedy=$folder/teacher_deep_shallow:$teacher,compute_type=int8"
)
declare -A model=([vanilla]=vanilla_nat [ctc]=ctc_nat [ctc_11-1]=ctc_nat_deep_shallow [da_transformer]=da_transformer [cmlm]=cmlm)
for name in vanilla ctc ctc_11-1 da_transformer cmlm; do
  hf-nat export --model "$folder/${model[$name]}" --output_dir "$folder/${name}_onnx" --quantize int8 \
    --sentences "$folder/sentences.txt" --max_samples 4
done
for name in vanilla ctc ctc_11-1 da_transformer; do
  systems+=("${name}_onnx_int8=$folder/${name}_onnx:backend=onnx,quantize=int8")
done
systems+=(
  "cmlm_onnx_int8_4=$folder/cmlm_onnx:backend=onnx,quantize=int8,max_iterations=4"
  "vanilla_onnx_float32=$folder/vanilla_onnx:backend=onnx" "vanilla_openvino=$folder/vanilla_onnx:backend=openvino"
  "ctc_openvino=$folder/ctc_onnx:backend=openvino"
)
OMP_NUM_THREADS=$threads python "$scripts/benchmark_decoding.py" --systems "${systems[@]}" \
  --sentences "$folder/sentences.txt" --threads "$threads" --num_sentences 128 --batch_sizes 1 16 64 --max_batches 12 \
  --repeats 2 --footprint --output "$folder/race_base_cpu.json"
