#!/usr/bin/env bash
# The race of the converged Multi30k students against CTranslate2: their graphs, tables, JSON and picture.
# Usage: scripts/race.sh FOLDER [THREADS] [SYSTEMS], in an environment with the extras `export`, `openvino`, `ct2` and `beam`, from a
# folder in which the models of configs/multi30k/converged lie in runs/multi30k/converged, and the corpus in data/multi30k. SYSTEMS, a
# regular expression, leaves the others out.
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
folder=$1 threads=${2:-1} wanted=${3:-.}
result=race_cpu
[ "$threads" = 1 ] || result+=_${threads}_threads
converged=runs/multi30k/converged corpus="data/multi30k/{split}.{lang}.gz"
languages=(--source_lang en --target_lang de)

export_graph() { # NAME MODEL [OPTIONS]
  hf-nat export --model "$converged/$2" --output_dir "$folder/$1" --quantize int8 \
    --sentences data/multi30k/val.en.gz --references data/multi30k/val.de.gz --target_lang de "${@:3}"
}
declare -A model=([ctc_3-3]=ctc_nat_glancing_distilled [ctc_5-1]=ctc_nat_glancing_5-1_distilled
  [glat]=vanilla_nat_glancing_distilled [cmlm]=cmlm_distilled [vanilla]=vanilla_nat_distilled
  [vanilla_scratch]=vanilla_nat_scratch_distilled [ctc_plain]=ctc_nat_distilled [levt]=levenshtein_transformer_distilled [dat]=da_transformer_distilled [ctc_real]=ctc_nat_glancing_real)
declare -A options=([dat]="--graph_decoding lookahead")
# One for both CTC models that learned from the teacher, whose tokenizer is the teacher's.
hf-nat language-model --model "$converged/${model[ctc_3-3]}" --corpus "$converged/distilled" "${languages[@]}"
if [ -f "$converged/${model[ctc_real]}/config.json" ]; then
  hf-nat language-model --model "$converged/${model[ctc_real]}" --corpus "$corpus" "${languages[@]}"
fi
for name in "${!model[@]}"; do
  [ -f "$converged/${model[$name]}/config.json" ] || continue
  export_graph "$name" "${model[$name]}" ${options[$name]:-}
done
for name in ctc_3-3 ctc_5-1; do
  [ -f "$converged/${model[$name]}/config.json" ] || continue
  export_graph "${name}_shortlist" "${model[$name]}" --shortlist "$converged/distilled" --source_lang en
done

teacher=$converged/teacher:backend=ct2 list=shortlist=$converged/distilled
fused=language_model=$converged/${model[ctc_3-3]},lm_weight=0.3
beam5=ctc_beam_size=5,ctc_length_bonus=2.0,$fused beam10=ctc_beam_size=10,ctc_length_bonus=2.5,$fused
systems=(
  "teacher_ct2_int8_greedy=$teacher,compute_type=int8"
  "teacher_ct2_int8_greedy_shortlist=$teacher,compute_type=int8,$list"
  "teacher_ct2_float32_greedy=$teacher,compute_type=float32"
  "teacher_ct2_float32_beam5=$teacher,compute_type=float32,num_beams=5"
  "teacher_ct2_int8_beam5=$teacher,compute_type=int8,num_beams=5"
  "teacher_ct2_int8_beam5_shortlist=$teacher,compute_type=int8,num_beams=5,$list"
  "teacher_transformers_greedy=$converged/teacher:num_beams=1"
  "teacher_transformers_draft=$converged/teacher:num_beams=1,draft=$converged/${model[ctc_3-3]}"
  "ctc_3-3_torch=$converged/${model[ctc_3-3]}"
  "ctc_3-3_torch_beam5=$converged/${model[ctc_3-3]}:ctc_beam_size=5,ctc_length_bonus=0.5"
  "ctc_3-3_torch_beam10_lm=$converged/${model[ctc_3-3]}:$beam10"
)
for layers in 3-1 5-1; do
  at=$converged/marian_${layers}_distilled:backend=ct2 name=at_${layers}_ct2
  systems+=("${name}_float32_greedy=$at,compute_type=float32" "${name}_float32_beam5=$at,compute_type=float32,num_beams=5"
    "${name}_int8_greedy=$at,compute_type=int8" "${name}_int8_greedy_shortlist=$at,compute_type=int8,$list"
    "${name}_int8_beam5=$at,compute_type=int8,num_beams=5"
    "${name}_int8_beam5_shortlist=$at,compute_type=int8,num_beams=5,$list")
done
for name in ctc_3-3 ctc_5-1; do
  systems+=("${name}_onnx_int8_beam5_lm=$folder/$name:backend=onnx,quantize=int8,$beam5"
    "${name}_onnx_int8_beam5_lm_shortlist=$folder/${name}_shortlist:backend=onnx,quantize=int8,$beam5"
    "${name}_onnx_int8_beam10_lm=$folder/$name:backend=onnx,quantize=int8,$beam10"
    "${name}_onnx_int8_beam10_lm_shortlist=$folder/${name}_shortlist:backend=onnx,quantize=int8,$beam10")
  systems+=("${name}_onnx_float32=$folder/$name:backend=onnx" "${name}_openvino=$folder/$name:backend=openvino"
    "${name}_onnx_int8=$folder/$name:backend=onnx,quantize=int8"
    "${name}_onnx_int8_shortlist=$folder/${name}_shortlist:backend=onnx,quantize=int8")
done
systems+=("ctc_real_onnx_int8_beam10_lm=$folder/ctc_real:backend=onnx,quantize=int8,${beam10/distilled/real}")
dat_beam=graph_decoding=beam,graph_beam_length_penalty=1.3
systems+=("dat_torch=$converged/${model[dat]}" "dat_torch_beam10=$converged/${model[dat]}:$dat_beam"
  "dat_torch_beam10_lm=$converged/${model[dat]}:$dat_beam,language_model=$converged/${model[ctc_3-3]},lm_weight=0.3")
for name in ctc_real vanilla vanilla_scratch ctc_plain levt dat; do systems+=("${name}_onnx_int8=$folder/$name:backend=onnx,quantize=int8"); done
systems+=(
  "glat_torch=$converged/${model[glat]}" "glat_onnx_int8=$folder/glat:backend=onnx,quantize=int8"
  "glat_openvino=$folder/glat:backend=openvino" "cmlm_torch_10=$converged/cmlm_distilled:max_iterations=10"
  "cmlm_onnx_int8_4=$folder/cmlm:backend=onnx,quantize=int8,max_iterations=4"
  "cmlm_onnx_int8_10=$folder/cmlm:backend=onnx,quantize=int8,max_iterations=10"
)
present=()
for system in "${systems[@]}"; do
  [[ ${system%%=*} =~ $wanted ]] || continue
  place=${system#*=}
  if [ -f "${place%%:*}/config.json" ]; then present+=("$system"); else echo "${system%%=*} is left out: no ${place%%:*}" >&2; fi
done
OMP_NUM_THREADS=$threads python "$scripts/benchmark_decoding.py" --systems "${present[@]}" \
  --corpus "$corpus" --split test_2016_flickr "${languages[@]}" --num_sentences 128 --repeats 5 --batch_sizes 1 8 64 \
  --threads "$threads" --quality --footprint --output "$folder/$result.json"
python "$scripts/plot_race.py" "$folder/$result.json" "$folder/$result.png"
