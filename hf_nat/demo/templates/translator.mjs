// An exported one-pass model in a browser or in Node: text to token ids as hf_nat makes them, one run of the graph, text.

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web/wasm";

// What `str.strip` of Python takes away, and what nobody can see.
const SPACES = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const STRIPPED = new RegExp(`^${SPACES}|${SPACES}$`, "gu");
const BLANK = /^[\s\x00-\x1f\x7f-\xa0\u2800\p{Default_Ignorable_Code_Point}]*$/u;

/** Text to token ids and back. */
export class Codec {
  /**
   * @param {object} tokenizer tokenizer.json
   * @param {object} config config.json of the model
   * @param {object} options tokenizer_config.json
   */
  constructor(tokenizer, config, options = {}) {
    const processors = tokenizer.post_processor?.processors ?? [tokenizer.post_processor];
    const template = processors.find((processor) => processor?.type === "TemplateProcessing");
    if (!template) throw new Error("tokenizer.json must have a TemplateProcessing, which says where EOS goes.");
    const places = template.single;
    const text = places.findIndex((place) => place.Sequence);
    const ids = (some) => some.flatMap(({ SpecialToken }) => template.special_tokens[SpecialToken.id].ids);
    this.prefix = ids(places.slice(0, text));
    this.suffix = ids(places.slice(text + 1));
    this.eos = config.eos_token_id;
    this.maxLength = config.max_position_embeddings ?? Infinity;
    this.special = new Set(tokenizer.added_tokens.filter(({ special }) => special).map(({ id }) => id));
    this.cleanUp = options.clean_up_tokenization_spaces ?? false;
    // The spelling of a special token inside a sentence is plain text.
    const added_tokens = tokenizer.added_tokens.filter(({ special }) => !special);
    this.encoder = new Tokenizer({ ...tokenizer, added_tokens }, options);
    this.decoder = new Tokenizer(tokenizer, options);
  }

  /** Token ids of a sentence, cut to the model's positions; none for a blank one. */
  encode(sentence) {
    if (BLANK.test(sentence)) return { ids: [], truncated: false };
    const { ids } = this.encoder.encode(sentence.replace(STRIPPED, ""), { add_special_tokens: false });
    if (ids.every((id) => BLANK.test(this.decoder.decode([id])))) return { ids: [], truncated: false };
    const whole = [...this.prefix, ...ids, ...this.suffix];
    if (whole.length <= this.maxLength) return { ids: whole, truncated: false };
    return { ids: [...whole.slice(0, this.maxLength - 1), this.eos], truncated: true };
  }

  /** Token ids before EOS. */
  content(ids) {
    const end = ids.indexOf(this.eos);
    return end < 0 ? ids : ids.slice(0, end);
  }

  /** The text of token ids, on one line; special tokens have none. */
  decode(ids) {
    const shown = ids.filter((id) => !this.special.has(id));
    if (!shown.length) return "";
    const text = this.decoder.decode(shown, { clean_up_tokenization_spaces: this.cleanUp });
    return text.replace(/[\r\n]+/g, " ").replace(STRIPPED, "");
  }
}

/** A graph from `input_ids` and `attention_mask` to `sequences` and their `token_scores`, with its codec. */
export class Translator {
  constructor(codec, session) {
    this.codec = codec;
    this.session = session;
  }

  /**
   * Loads an exported folder.
   *
   * @param {string} folder address of the folder
   * @param {string} graph which of its graphs, as "onnx/model.onnx"
   */
  static async load(folder, graph) {
    const tokenizer = await json(`${folder}/tokenizer.json`);
    const config = await json(`${folder}/config.json`);
    const options = await json(`${folder}/tokenizer_config.json`);
    const network = await bytes(`${folder}/${graph}`);
    // More threads need headers that a plain server does not send.
    ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create(network, { executionProviders: ["wasm"] });
    return new Translator(new Codec(tokenizer, config, options), session);
  }

  /** Translates a sentence; `milliseconds` counts tokenizer and graph, `score` is the mean of its tokens in nats. */
  async translate(sentence) {
    const started = performance.now();
    const { ids, truncated } = this.codec.encode(sentence);
    if (!ids.length) return { text: "", score: null, milliseconds: performance.now() - started, truncated };
    const tensor = (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
    const outputs = await this.session.run(
      { input_ids: tensor(ids), attention_mask: tensor(ids.map(() => 1)) },
      ["sequences", "token_scores"], // not the frames of CTC, which a search alone reads
    );
    const content = this.codec.content(Array.from(outputs.sequences.data, Number));
    const scores = outputs.token_scores.data.slice(0, content.length);
    const score = scores.length ? scores.reduce((sum, one) => sum + one) / scores.length : 0;
    return { text: this.codec.decode(content), score, milliseconds: performance.now() - started, truncated };
  }
}

async function bytes(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} answered ${answer.status}.`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function json(address) {
  return JSON.parse(new TextDecoder().decode(await bytes(address)));
}
