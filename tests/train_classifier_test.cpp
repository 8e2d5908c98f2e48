// SPDX-License-Identifier: MIT
// The program train_classifier as a user meets it: from texts to a model folder and its INT8 twin, resumed, refused, interrupted,
// killed; and what it finds in the folder it writes to stays, or is replaced as a whole.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "examples/train_classifier/batches.hpp"
#include "lowbit/gpt2/model.hpp"
#include "lowbit/gpt2/tokenizer.hpp"
#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "support/catch.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"
#include "support/process.hpp"
#include "support/sanitizers.hpp"

namespace train_classifier_test {

namespace {

using namespace lowbit;
using lowbit_test::Folder;
using lowbit_test::Outcome;
using lowbit_test::Process;
using lowbit_test::put_file;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

// Without the lines on progress that a slow machine sees.
Outcome run(const Folder& folder, const Arguments& arguments) {
  Outcome o = Process(TRAIN_CLASSIFIER, folder, arguments).wait();
  std::istringstream lines(o.err);
  o.err.clear();
  for (std::string line; std::getline(lines, line);)
    if (!line.starts_with("progress: ")) o.err += line + '\n';
  return o;
}
// A shell script in which "$0" "$@" is the program with its arguments.
Outcome run_in_shell(const Folder& folder, const std::string& script, const Arguments& arguments) {
  Arguments a = {"-c", script, TRAIN_CLASSIFIER};
  a.insert(a.end(), arguments.begin(), arguments.end());
  return Process("/bin/sh", folder, a).wait();
}
bool holds(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }
std::string news() { return (lowbit::testing::assets_dir() / "news_items.csv").string(); }

// A model of seconds, on 160 of the news items; all of them are its test rows.
Arguments small(const Folder& folder, const std::string& out, const Arguments& more = {}) {
  Arguments a = {"--data",   news(), "--test",  news(), "--limit",    "160", "--out",   (folder / out).string(),
                 "--layers", "1",    "--width", "32",   "--heads",    "2",   "--vocab", "400",
                 "--epochs", "2",    "--batch", "20",   "--lm-share", "1"};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}
// A model of a moment: one step, on 40 rows.
Arguments tiny(const fs::path& out, const Arguments& more = {}) {
  Arguments a = {"--data", news(), "--limit", "40", "--out", out.string(), "--epochs", "1", "--batch", "64", "--threads", "2"};
  a.insert(a.end(), more.begin(), more.end());
  return a;
}
Arguments new_shape(const std::string& vocab = "300") {
  return {"--layers", "1", "--width", "16", "--heads", "2", "--vocab", vocab, "--positions", "64", "--lm-weight", "0"};
}
Arguments joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
// All files below a folder with their contents.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> all;
  if (!fs::exists(folder)) return all;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    all[entry.path().lexically_relative(folder).generic_string()] = entry.is_directory() ? "" : io::read_text(entry.path());
  return all;
}
std::size_t lines_of(const fs::path& file) {
  const std::string text = io::read_text(file);
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace

TEST_CASE("train_classifier: from texts to a model folder and its INT8 twin") {
  const Folder folder;
  const Outcome o =
      run(folder, small(folder, "model", {"--qat", "int8", "--class-names", "World,Sports,Business,Sci/Tech", "--profile"}));
  INFO(o.out + o.err);
  REQUIRE(o.code == 0);
  CHECK(o.err == "");
  for (const char* said : {"epoch 2 of 2", "int8 in the loop", "95 % interval", "linear layers, backward", "of limit"})
    CHECK(holds(o.out, said));
  const fs::path model = folder / "model";
  CHECK(lines_of(model / "history.csv") == 1 + 16);

  const io::Json summary = io::parse_json(io::read_text(model / "training.json"), "training.json");
  CHECK(summary.at("epochs").size() == 2);
  CHECK(summary.at("options").at("quantization") == "int8");
  REQUIRE(summary.at("models").size() == 2);
  CHECK(holds(summary.at("models").at(0).at("runs_as"), "f32 compute"));
  CHECK(holds(summary.at("models").at(1).at("runs_as"), "int8 compute"));
  CHECK(summary.at("data").at("train_rows") == 160);

  const auto tokenizer = gpt2::Tokenizer::load(model);
  CHECK(tokenizer.vocab_size() == 400);
  const auto loaded = gpt2::Model<DenseTensor<float>>::load(model);
  CHECK(loaded.config.class_names == std::vector<std::string>{"World", "Sports", "Business", "Sci/Tech"});
  gpt2::ModelOptions<Int8Tensor<>> options;
  options.linear.compute = Compute::int8;
  const auto twin = gpt2::Model<Int8Tensor<>>::load(model / "int8", options);  // has its own embeddings: they were trained
  // The twin's accuracy is that of the training loop's last evaluation: the same rows, the same rounding.
  std::size_t right = 0, rows = 0;
  SerialExecutor serial;
  for (const auto& row : io::read_news(news())) {
    auto ids = tokenizer.encode(row.title + " " + row.description);
    ids.resize(std::min<std::size_t>(ids.size(), 160));
    const std::vector<float> logits = twin.classify(ids, serial);
    right += std::max_element(logits.begin(), logits.end()) - logits.begin() == row.label;
    ++rows;
  }
  CHECK(summary.at("models").at(1).at("accuracy").get<double>() == Approx(static_cast<double>(right) / static_cast<double>(rows)));
  // Rounding may move a row or two between the two ways of computing.
  CHECK(std::fabs(summary.at("epochs").at(1).at("test_accuracy").get<double>() -
                  static_cast<double>(right) / static_cast<double>(rows)) < 0.02);
}

TEST_CASE("train_classifier: a resumed run is the run that was not stopped, with other threads") {
  const Folder folder;
  const Arguments longer = {"--epochs", "6", "--checkpoint-every", "1"};
  const auto with = [&](const std::string& out, Arguments more) {
    more.insert(more.end(), longer.begin(), longer.end());
    Arguments all = small(folder, out, more);
    all.erase(std::find(all.begin(), all.end(), "--epochs"), std::find(all.begin(), all.end(), "--epochs") + 2);  // that of small()
    return all;
  };
  REQUIRE(run(folder, with("whole", {"--threads", "1"})).code == 0);
  // Interrupted once the first epoch is saved.  A run that was quicker than the signal is tried again.
  bool interrupted = false;
  for (int attempt = 0; attempt < 20 && !interrupted; ++attempt) {
    Process process(TRAIN_CLASSIFIER, folder, with("parts", {"--threads", "2", "--overwrite"}));
    fs::remove(folder / "parts/checkpoint.safetensors");
    for (int i = 0; i < 20000 && !fs::exists(folder / "parts/checkpoint.safetensors"); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.interrupt();
    const Outcome stopped = process.wait();
    INFO(stopped.out + stopped.err);
    interrupted = stopped.code == 130 && fs::exists(folder / "parts/checkpoint.safetensors");
    if (interrupted) {
      CHECK(holds(stopped.err, "--resume goes on"));
      CHECK_FALSE(fs::exists(folder / "parts/training.json"));
    }
    fs::remove(folder / "parts/training.json");
  }
  REQUIRE(interrupted);
  const Outcome refused = run(folder, with("parts", {}));
  CHECK(refused.code == 1);
  CHECK(holds(refused.err, "--resume goes on from it"));
  const Outcome resumed = run(folder, with("parts", {"--resume", "--threads", "2"}));
  INFO(resumed.out + resumed.err);
  REQUIRE(resumed.code == 0);
  for (const char* file : {"history.csv", "model.safetensors"})
    CHECK(io::read_text(folder / "parts" / file) == io::read_text(folder / "whole" / file));
  // A finished run has nothing left to do but to write its model.
  const Outcome again = run(folder, with("parts", {"--resume", "--profile"}));
  CHECK(again.code == 0);
  CHECK(holds(again.out, "no step was taken"));
  CHECK(io::read_text(folder / "parts/model.safetensors") == io::read_text(folder / "whole/model.safetensors"));
  // A checkpoint of another run is not taken for this one's.
  for (const Arguments& other : {Arguments{"--seed", "2"}, Arguments{"--heads", "4"}}) {
    Arguments all = with("whole", other);
    if (other[0] == "--heads")
      all.erase(std::find(all.begin(), all.end(), "--heads"), std::find(all.begin(), all.end(), "--heads") + 2);
    all.push_back("--resume");
    const Outcome o = run(folder, all);
    CAPTURE(o.err);
    CHECK(o.code == 1);
    CHECK(holds(o.err, "made by another run"));
    // Of the two recipes, what differs.
    CHECK(holds(o.err, other[0] + ": recorded " + (other[0] == "--seed" ? "1" : "2") + ", given " + other[1]));
    CHECK_FALSE(holds(o.err, "--batch"));
    CHECK_FALSE(holds(o.err, "rows with hash"));
  }
}

TEST_CASE("train_classifier: what --resume is given and the run was not is refused, all of it and nothing else") {
  const Folder folder;
  const fs::path out = folder / "out";
  REQUIRE(run(folder, tiny(out, new_shape())).code == 0);
  const auto before = contents(out);
  const auto refused = [&](const Arguments& arguments, const std::string& words) {
    const Outcome o = run(folder, joined(arguments, {"--resume"}));
    INFO(o.err);
    CHECK(o.code == 1);
    CHECK(holds(o.err, words));
    CHECK(lines_of(folder / "stderr") <= 4);
    CHECK(contents(out) == before);
  };
  refused(tiny(out, new_shape("500")), "--vocab: recorded 300, given 500");
  refused(tiny(out, joined(new_shape(), {"--max-tokens", "30"})), "--max-tokens: recorded 160, given 30");
  refused(tiny(out, joined(new_shape(), {"--class-names", "a,b,c,d"})), "--class-names: recorded [], given [\"a\",");
  refused(tiny(out, joined(new_shape(), {"--freeze-embeddings"})), "--freeze-embeddings: recorded false, given true");
  refused(tiny(out, {"--layers", "1", "--width", "16", "--heads", "2", "--vocab", "300", "--positions", "64"}),
          "--lm-weight: recorded 0.0, not given, which is 0.2\n");
  refused(joined(tiny(out, new_shape()), {"--test", news()}), "the test rows: recorded \"2 rows");
  // A checkpoint that no run of this program made.
  fs::create_directories(folder / "other");
  io::write_safetensors(folder / "other/checkpoint.safetensors", {}, {{"kind", "mine"}});
  const Outcome other = run(folder, tiny(folder / "other", joined(new_shape(), {"--resume"})));
  CHECK(other.code == 1);
  CHECK(holds(other.err, "expected a checkpoint of this version of train_classifier"));
  // One whose numbers are none of a run.
  const fs::path checkpoint = out / "checkpoint.safetensors";
  const std::string whole = io::read_text(checkpoint);
  for (const auto& [key, value] : {std::pair("epoch", io::Json(-1)), {"epoch", 1e300}, {"step", io::Json::array()}}) {
    {
      const io::SafeTensors file = io::SafeTensors::open(checkpoint);
      std::vector<io::TensorToWrite> tensors;
      for (const io::TensorView& t : file.tensors()) tensors.push_back({t.name, t.dtype, t.shape, t.data});
      io::Metadata metadata = file.metadata();
      for (auto& [name, text] : metadata)
        if (name == "state") {
          io::Json state = io::parse_json(text, name);
          state[key] = value;
          text = state.dump();
        }
      io::write_safetensors(checkpoint, tensors, metadata);
    }
    const Outcome o = run(folder, tiny(out, joined(new_shape(), {"--resume"})));
    INFO(o.err);
    CHECK(o.code == 1);
    CHECK(holds(o.err, "checkpoint.safetensors: state: expected a count, found"));
    put_file(checkpoint, whole);
  }
  // Its own run needs no --overwrite, and makes the same model.
  const Outcome own = run(folder, tiny(out, joined(new_shape(), {"--resume", "--profile", "--checkpoint-every", "9"})));
  INFO(own.err);
  CHECK(own.code == 0);
  CHECK(contents(out).at("model.safetensors") == before.at("model.safetensors"));
  // Another model that was put there meanwhile is not its own.
  fs::remove(out / "training.json");
  const Outcome foreign = run(folder, tiny(out, joined(new_shape(), {"--resume"})));
  CHECK(foreign.code == 1);
  CHECK(holds(foreign.err, "holds a model already"));
  CHECK(run(folder, tiny(out, joined(new_shape(), {"--resume", "--overwrite"}))).code == 0);
}

TEST_CASE("train_classifier: what is in --out already stays unless --overwrite says so") {
  const Folder folder;
  const fs::path out = folder / "out";
  REQUIRE(run(folder, tiny(out, joined(new_shape(), {"--qat", "int8"}))).code == 0);
  const auto whole = contents(out);
  REQUIRE(whole.contains("int8/model.safetensors"));
  const auto refused = [&](const fs::path& to, const Arguments& more, const std::string& words) {
    const auto before = contents(to);
    const Outcome o = run(folder, tiny(to, more));
    INFO(o.err);
    CHECK(o.code == 1);
    CHECK(holds(o.err, words));
    CHECK(holds(o.err, "--overwrite"));
    CHECK(contents(to) == before);
  };
  refused(out, new_shape(), "--resume goes on from it");
  fs::remove(out / "checkpoint.safetensors");
  fs::remove(out / "history.csv");
  refused(out, new_shape(), "holds a model already");
  refused(out / "", new_shape(), "out: holds a model already");
  refused(out, {"--model", out.string()}, "holds a model already");
  for (const char* file :
       {"config.json", "model.safetensors", "vocab.json", "merges.txt", "training.json", "int8/model.safetensors",
        "model.safetensors.index.json", "model-00001-of-00002.safetensors", "tokenizer.json"}) {
    CAPTURE(file);
    const fs::path one = folder / "one";
    put_file(one / file, "old");
    refused(one, new_shape(), file);
    fs::remove_all(one);
  }

  // With it, the old model goes as a whole, and what is none stays.
  const std::string model = whole.at("model.safetensors");
  put_file(out / "notes.md", "mine");
  put_file(out / "int8/notes.md", "mine too");
  put_file(out / "tokenizer.json", "of the old vocabulary");
  const Outcome o = run(folder, tiny(out, joined(new_shape("320"), {"--overwrite"})));
  INFO(o.err);
  REQUIRE(o.code == 0);
  std::vector<std::string> names;
  for (const auto& [name, text] : contents(out)) names.push_back(name);
  CHECK(names == std::vector<std::string>{"checkpoint.safetensors", "config.json", "history.csv", "int8", "int8/notes.md",
                                          "merges.txt", "model.safetensors", "notes.md", "training.json", "vocab.json"});
  CHECK(io::read_text(out / "notes.md") == "mine");
  CHECK(gpt2::Tokenizer::load(out).vocab_size() == 320);
  CHECK(gpt2::Model<DenseTensor<float>>::load(out).config.vocab == 320);
  CHECK(lowbit_test::file_names(folder) == std::vector<std::string>{"out", "stderr", "stdout"});

  // Onto itself: read before it is replaced, and its tokenizer stays.
  put_file(out / "tokenizer.json", R"({"model": {}})");
  const auto onto = contents(out);
  const Outcome itself = run(folder, tiny(out, {"--model", out.string() + "/", "--overwrite"}));
  INFO(itself.err);
  REQUIRE(itself.code == 0);
  const auto after = contents(out);
  for (const char* same : {"vocab.json", "merges.txt", "tokenizer.json", "notes.md"}) CHECK(after.at(same) == onto.at(same));
  CHECK(after.at("model.safetensors") != onto.at("model.safetensors"));
  CHECK(run(folder, tiny(out, {"--model", out.string(), "--resume"})).code == 0);
  // Left by a program that died where the system cannot exchange two folders in one step.
  fs::rename(out, folder / "out.old0");
  for (const Arguments& more : {new_shape(), joined(new_shape(), {"--resume"}), joined(new_shape(), {"--overwrite"})}) {
    const Outcome moved = run(folder, tiny(out, more));
    CHECK(moved.code == 1);
    CHECK(holds(moved.err, "out.old0 is there"));
  }
}

TEST_CASE("train_classifier: nothing is written before all input has been read") {
  const Folder folder;
  const std::string mini = (lowbit::testing::assets_dir() / "gpt2-mini-ag-news").string();
  fs::create_directories(folder / "mine");
  for (const auto& [name, text] : contents(mini)) put_file(folder / "mine" / name, text);
  put_file(folder / "empty.csv", "");
  put_file(folder / "cut.csv", "1,a,b\n2,\"c,d\n");
  put_file(folder / "five.csv", "5,a,b\n");
  put_file(folder / "nine.csv", "9,a,b\n");
  const auto before = contents(folder / "mine");
  const auto refused = [&](const Arguments& more, const std::string& words) {
    for (const char* out : {"mine", "new/below"})
      for (const bool from_model : {false, true}) {
        Arguments a = {"--out", (folder / out).string(), "--overwrite"};
        if (from_model) a = joined(a, {"--model", (folder / "mine").string()});
        const Outcome o = run(folder, joined(a, more));
        INFO(o.err);
        CHECK(o.code == 1);
        CHECK(holds(o.err, words));
        CHECK((contents(folder / "mine") == before));
        CHECK_FALSE(fs::exists(folder / "new"));
      }
  };
  const auto csv = [&](const char* name) { return (folder / name).string(); };
  refused({"--data", csv("empty.csv")}, "empty.csv");
  refused({"--data", csv("cut.csv")}, "never closed");
  refused({"--data", csv("none.csv")}, "none.csv");
  refused({"--data", news(), "--test", csv("nine.csv"), "--limit", "40"}, "class from 1 to 4");
  refused({"--data", news(), "--limit", "40", "--max-tokens", "257"}, "--max-tokens: expected at most 256");
  // A model that could not be written at the end.
  const Outcome twice =
      run(folder, {"--data", news(), "--limit", "40", "--out", csv("new"), "--class-names", "LABEL_3", "--vocab", "300"});
  CHECK(twice.code == 1);
  CHECK(holds(twice.err, "two classes are called \"LABEL_3\""));
  // The folder that the program runs in has no place beside which another could take its place.
  const Outcome here = run(folder, {"--data", news(), "--out", "."});
  CHECK(here.code == 1);
  CHECK(holds(here.err, "in which the program runs"));
  CHECK_FALSE(fs::exists(folder / "new"));
}

TEST_CASE("train_classifier: a tokenizer that does not fit its model, a model that is not finite") {
  const Folder folder;
  const fs::path mini = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";
  const auto refused = [&](const fs::path& model, const Arguments& more, const std::string& words) {
    const Outcome o = run(folder, tiny(folder / "out", joined({"--model", model.string()}, more)));
    INFO(o.err);
    CHECK(o.code == 1);
    CHECK(holds(o.err, words));
    CHECK_FALSE(fs::exists(folder / "out/model.safetensors"));
    CHECK_FALSE(fs::exists(folder / "out/training.json"));
  };
  REQUIRE(run(folder, tiny(folder / "small", new_shape())).code == 0);
  const auto with = [&](const char* name, const fs::path& model, const fs::path& tokenizer) {
    fs::create_directories(folder / name);
    for (const char* file : {"config.json", "model.safetensors"}) fs::copy_file(model / file, folder / name / file);
    for (const char* file : {"vocab.json", "merges.txt"}) fs::copy_file(tokenizer / file, folder / name / file);
    return folder / name;
  };
  refused(with("few", mini, folder / "small"), {}, "does not fit the model: expected at least 7680 tokens");
  refused(with("many", folder / "small", mini), {}, "does not fit the model: expected token ids below 300");

  const fs::path short_merges = with("short", mini, mini);
  put_file(short_merges / "merges.txt", "#version: 0.2\n");
  refused(short_merges, {}, "does not fit the model: expected merges that make its 8192 tokens, found none for 7935");

  const fs::path broken = with("nan", folder / "small", folder / "small");  // which is no number, but a name like another
  const io::SafeTensors file = io::SafeTensors::open(broken / "model.safetensors");
  std::vector<float> gain(16, 1);
  gain[3] = std::numeric_limits<float>::quiet_NaN();
  std::vector<io::TensorToWrite> tensors;
  for (const io::TensorView& t : file.tensors())
    tensors.push_back({t.name, t.dtype, t.shape, t.name == "transformer.ln_f.weight" ? std::as_bytes(std::span(gain)) : t.data});
  io::write_safetensors(broken / "model.safetensors", tensors, file.metadata());
  refused(broken, {}, "nan: transformer.ln_f.weight: element (0, 3) is nan");

  // A run that leaves the numbers: its loss, or, if that was its last step, what it makes of the test rows.
  const Arguments wild = {"--rate", "1e38", "--warmup", "0", "--weight-decay", "0"};
  refused(folder / "small", wild, "test row ");
  fs::remove_all(folder / "out");
  const Outcome o = run(folder, joined({"--data", news(), "--limit", "40", "--out", (folder / "out").string(), "--model",
                                        (folder / "small").string(), "--batch", "20"},
                                       wild));
  INFO(o.err);
  CHECK(o.code == 1);
  CHECK(holds(o.err, "epoch 1, step 2: the loss is "));
  CHECK_FALSE(fs::exists(folder / "out"));
}

TEST_CASE("train_classifier: a program that is killed at any time leaves the old model or the new one") {
  const Folder folder;
  const fs::path out = folder / "out";
  REQUIRE(run(folder, tiny(out, joined(new_shape("300"), {"--qat", "int8"}))).code == 0);
  const auto length_of = [&](const Arguments& arguments) {
    const auto start = std::chrono::steady_clock::now();
    REQUIRE(run(folder, arguments).code == 0);
    return std::chrono::steady_clock::now() - start;
  };
  const auto other = [&](int round) {
    return tiny(out, joined(new_shape(round % 2 == 0 ? "320" : "300"), {"--qat", "int8", "--overwrite"}));
  };
  const auto length = length_of(other(1));
  const int rounds = lowbit_test::kills(16);
  for (int round = 0; round < rounds; ++round) {
    {
      Process process(TRAIN_CLASSIFIER, folder, other(round));
      std::this_thread::sleep_for(length * (round + 1) / rounds);  // most of the writing is at the end
      process.signal(SIGKILL);
      process.wait();
    }
    const auto loaded = gpt2::Model<DenseTensor<float>>::load(out);
    const auto twin = gpt2::Model<Int8Tensor<>>::load(out / "int8");
    CHECK(gpt2::Tokenizer::load(out).vocab_size() == loaded.config.vocab);
    CHECK(twin.config.vocab == loaded.config.vocab);
    const io::Json summary = io::parse_json(io::read_text(out / "training.json"), "training.json");
    CHECK(summary.at("shape").at("vocab") == loaded.config.vocab);
  }
  fs::create_directory(folder / "out.part90");
  fs::create_directory(folder / "out.part90.part0");
  const Outcome next = run(folder, other(0));
  INFO(next.err);
  CHECK(next.code == 0);
  for (const std::string& name : lowbit_test::file_names(folder)) {
    CAPTURE(name);
    if (name.starts_with("out.part")) CHECK(holds(next.err, name + ": left by a run that was killed"));
  }
}

TEST_CASE("train_classifier: rows held out, a vocabulary that stays small, NF4 in the loop, written over its own folder") {
  const Folder folder;
  const std::string out = (folder / "out").string();
  const Outcome first = run(folder, {"--data", news(), "--limit", "100", "--out", out, "--layers", "1", "--width", "32", "--heads",
                                     "2", "--vocab", "60000", "--epochs", "1", "--qat", "nf4"});
  INFO(first.out + first.err);
  REQUIRE(first.code == 0);
  CHECK(holds(first.out, "95 rows"));
  CHECK(holds(first.out, "5 test rows"));
  CHECK(holds(first.out, "nf4 in the loop"));
  const auto tokens = gpt2::Tokenizer::load(out).vocab_size();
  CHECK(tokens < 20000);
  CHECK(gpt2::Model<DenseTensor<float>>::load(out).config.vocab == tokens);
  const Outcome second = run(folder, {"--data", news(), "--limit", "100", "--out", out, "--model", out, "--overwrite"});
  INFO(second.out + second.err);
  CHECK(second.code == 0);
  CHECK_FALSE(holds(second.out, "before: float"));
  CHECK(lowbit_test::file_names(folder) == std::vector<std::string>{"out", "stderr", "stdout"});
  // More classes in the test rows than the model has.
  put_file(folder / "five.csv", "5,a,b\n");
  const Outcome five = run(folder, {"--data", news(), "--test", (folder / "five.csv").string(), "--out", (folder / "five").string(),
                                    "--vocab", "300", "--limit", "40"});
  CHECK(five.code == 1);
  CHECK(holds(five.err, "class from 1 to 4"));
}

TEST_CASE("train_classifier: an epoch sees every row once, in batches of like length") {
  std::vector<examples::Item> items(1000);
  for (std::size_t i = 0; i < items.size(); ++i) items[i].ids.resize(1 + i * 7919 % 97);
  const auto batches = train_classifier::epoch_batches(items, 16, 1, 0);
  std::vector<std::size_t> seen(items.size());
  double spread = 0;
  for (const auto& batch : batches) {
    REQUIRE(batch.size() <= 16);
    std::size_t shortest = 1000, longest = 0;
    for (const std::size_t r : batch) {
      ++seen[r];
      shortest = std::min(shortest, items[r].ids.size());
      longest = std::max(longest, items[r].ids.size());
    }
    spread += static_cast<double>(longest - shortest) / static_cast<double>(batches.size());
  }
  CHECK(batches.size() == 63);
  CHECK(std::all_of(seen.begin(), seen.end(), [](std::size_t n) { return n == 1; }));
  CHECK(spread < 4);  // of 97
  CHECK(train_classifier::epoch_batches(items, 16, 1, 0) == batches);
  CHECK(train_classifier::epoch_batches(items, 16, 1, 1) != batches);
  CHECK(train_classifier::epoch_batches(items, 16, 2, 0) != batches);
}

TEST_CASE("train_classifier: goes on from a folder, embeddings frozen, with a twin beside it") {
  const Folder folder;
  const std::string mini = (lowbit::testing::assets_dir() / "gpt2-mini-ag-news").string();
  const Outcome o = run(folder, {"--model", mini, "--qat", "int8", "--data", news(), "--limit", "40", "--out",
                                 (folder / "out").string(), "--freeze-embeddings", "--batch", "8"});
  INFO(o.out + o.err);
  REQUIRE(o.code == 0);
  for (const char* said : {"before training: ", "before: float", "before: int8 after training", "int8 in the loop", "McNemar p"})
    CHECK(holds(o.out, said));
  CHECK(holds(o.out, "epoch 1 of 1"));
  const io::SafeTensors before = io::SafeTensors::open(mini + "/model.safetensors"),
                        after = io::SafeTensors::open((folder / "out/model.safetensors").string()),
                        twin = io::SafeTensors::open((folder / "out/int8/model.safetensors").string());
  const auto floats = [](const io::SafeTensors& file, const char* name) {
    std::vector<float> v(file.at(name).elements());
    io::read_floats(file.at(name), v);
    return v;
  };
  CHECK(floats(before, "transformer.wte.weight") == floats(after, "transformer.wte.weight"));
  CHECK(floats(before, "transformer.h.0.mlp.c_fc.weight") != floats(after, "transformer.h.0.mlp.c_fc.weight"));
  CHECK_FALSE(twin.contains("transformer.wte.weight"));
}

TEST_CASE("train_classifier: a model of quantized weights is said to be one, and a file is no model") {
  const Folder folder;
  const fs::path mini = lowbit::testing::assets_dir() / "gpt2-mini-ag-news";
  fs::copy(lowbit::testing::assets_dir() / "gpt2-mini-ag-news-int8-qat", folder / "int8");
  for (const char* file : {"vocab.json", "merges.txt"}) fs::copy_file(mini / file, folder / "int8" / file);
  {  // the embeddings that it shares with the float model
    const io::SafeTensors file = io::SafeTensors::open(folder / "int8/model.safetensors"),
                          floats = io::SafeTensors::open(mini / "model.safetensors");
    std::vector<io::TensorToWrite> tensors;
    for (const io::TensorView& t : file.tensors()) tensors.push_back({t.name, t.dtype, t.shape, t.data});
    for (const char* name : {"transformer.wte.weight", "transformer.wpe.weight"}) {
      const io::TensorView& t = floats.at(name);
      tensors.push_back({t.name, t.dtype, t.shape, t.data});
    }
    io::write_safetensors(folder / "whole.safetensors", tensors);
  }
  fs::rename(folder / "whole.safetensors", folder / "int8/model.safetensors");
  const Outcome o = run(folder, {"--model", (folder / "int8").string(), "--data", news(), "--limit", "20", "--max-tokens", "8",
                                 "--out", (folder / "out").string(), "--batch", "32"});
  INFO(o.out + o.err);
  CHECK(o.code == 0);
  CHECK(holds(o.out, "16 linear layers hold int8 weights; training goes on from their decoded values"));
  const Outcome file =
      run(folder, {"--model", (mini / "model.safetensors").string(), "--data", news(), "--out", (folder / "none").string()});
  CHECK(file.code == 1);
  CHECK(holds(file.err, "model.safetensors: is a file; expected the folder"));
  CHECK_FALSE(fs::exists(folder / "none"));
}

TEST_CASE("train_classifier: more threads than processors are warned of") {
  const Folder folder;
  Arguments a = tiny(folder / "out", new_shape());
  const std::string many = std::to_string(available_processors() + 1);
  *(std::find(a.begin(), a.end(), "--threads") + 1) = many;
  const Outcome o = run(folder, a);
  CHECK(o.code == 0);
  CHECK(holds(o.err, "warning: --threads " + many));
}

#if defined(__linux__)  // elsewhere names are text
TEST_CASE("train_classifier: names that are no UTF-8 cost no run") {
  const Folder folder;
  const std::string data = (folder / "caf\xE9.csv").string();
  fs::copy_file(news(), data);
  const auto arguments = [&](const fs::path& out, const Arguments& more) {
    return joined({"--data", data, "--limit", "40", "--out", out.string(), "--epochs", "1", "--batch", "64", "--threads", "2"},
                  more);
  };
  const fs::path first = folder / "m\xE9", second = folder / "second";
  REQUIRE(run(folder, arguments(first, new_shape())).code == 0);
  const Outcome o = run(folder, arguments(second, {"--model", first.string()}));
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK(holds(io::read_text(second / "training.json"), "caf\xEF\xBF\xBD.csv"));
  // The same run, whose checkpoint says where its model was.
  CHECK(run(folder, arguments(second, {"--model", first.string(), "--resume"})).code == 0);
  CHECK(run(folder, arguments(second, {"--model", second.string(), "--resume"})).code == 1);
  // Another spelling of it, and another model whose name differs in such a byte alone.
  CHECK(run(folder, arguments(second, {"--model", (folder / "." / "m\xE9").string() + "/", "--resume"})).code == 0);
  fs::copy(first, folder / "m\xE8");
  CHECK(run(folder, arguments(second, {"--model", (folder / "m\xE8").string(), "--resume"})).code == 1);
}
#endif

TEST_CASE("train_classifier: help, and what is wrong") {
  const Folder folder;
  const Outcome help = run(folder, {"--help"});
  CHECK(help.code == 0);
  for (const char* word : {"--qat", "--resume", "Examples", "Exit codes", "checkpoint", "--overwrite"})
    CHECK(holds(help.out, word));
  const Outcome version = run(folder, {"--version"});
  CHECK(version.code == 0);
  CHECK(version.out == std::string("train_classifier ") + LOWBIT_VERSION + "\n");
  const auto refused = [&](const Arguments& arguments, int code, const std::string& word) {
    const Outcome o = run(folder, arguments);
    CAPTURE(o.err);
    CHECK(o.code == code);
    CHECK(holds(o.err, "train_classifier: "));
    CHECK(holds(o.err, word));
  };
  const std::string out = (folder / "out").string();
  refused({"--out", out}, 2, "--data");
  refused({"--data", news(), "--out", out, "--qat", "int4"}, 2, "expected int8 or nf4");
  refused({"--data", news(), "--out", out, "--width", "30", "--heads", "4"}, 2, "multiple of --heads");
  refused({"--data", news(), "--out", out, "--model", "x", "--layers", "3"}, 2, "its own shape");
  const std::string twice = "--class-names: two classes are called \"b\"",
                    empty = "--class-names: expected names, found an empty one";
  refused({"--data", news(), "--out", out, "--class-names", "a,b,c,b"}, 2, twice);
  refused({"--data", news(), "--out", out, "--class-names", "a,b", "--class-names", "b"}, 2, twice);
  for (const char* names : {"a,,b", ",a", "a,", ",", "", " ", "a, ,b"}) {
    CAPTURE(names);
    refused({"--data", news(), "--out", out, "--class-names", names}, 2, empty);
  }
  refused({"--data", (folder / "none.csv").string(), "--out", out}, 1, "none.csv");
  refused({"--data", news(), "--out", out, "--model", (folder / "none").string()}, 1, "none");
  refused({"--data", news(), "--out", out, "--vocab", "100"}, 1, "257");
  refused(small(folder, "fresh", {"--resume"}), 1, "checkpoint.safetensors");
  CHECK_FALSE(fs::exists(folder / "fresh/vocab.json"));
  for (const char* value : {"nan", "NAN", "-nan", "nan(1)", "inf", "INFINITY", "1e400", "1e39", "1e-50"})
    for (const char* option : {"--dropout", "--rate", "--warmup", "--clip"})
      refused({"--data", news(), "--out", out, option, value}, 2,
              std::string("expected a number that a float holds, found ") + value);
  if (!LOWBIT_TEST_SANITIZED)  // more than there are addresses
    refused({"--data", news(), "--out", out, "--layers", "1", "--width", "64", "--heads", "1", "--vocab", "300", "--positions",
             "1099511627776"},
            1, "out of memory");
  put_file(folder / "few.csv", "1,a,b\n2,c,d\n");
  refused({"--data", (folder / "few.csv").string(), "--out", out, "--vocab", "257"}, 1, "20 rows");
  put_file(folder / "file", "x");
  refused({"--data", news(), "--out", (folder / "file").string()}, 1, "file");
  CHECK_FALSE(fs::exists(out));
}

TEST_CASE("train_classifier: an output that cannot be written is told, and does not cost the model") {
  const Folder folder;
  const fs::path out = folder / "out", pipe = folder / "pipe";
  REQUIRE(run(folder, tiny(out, new_shape())).code == 0);
  const std::string model = io::read_text(out / "model.safetensors");
  const auto check = [&](const std::string& script, const std::string& reason) {
    CAPTURE(script);
    fs::remove_all(out);
    const Outcome o = run_in_shell(folder, script, tiny(out, new_shape()));
    INFO(o.err);
    CHECK(o.code == 1);
    if (reason != "unseen") CHECK(holds(o.err, "train_classifier: standard output: cannot write: " + reason));
    if (reason != "unseen") CHECK(holds(o.err, "the model in " + out.string() + " is whole"));
    REQUIRE(fs::exists(out / "training.json"));
    CHECK(gpt2::Tokenizer::load(out).vocab_size() == gpt2::Model<DenseTensor<float>>::load(out).config.vocab);
    CHECK((io::read_text(out / "model.safetensors") == model));
  };
  check("exec \"$0\" \"$@\" >&-", "Bad file descriptor");
  check("exec \"$0\" \"$@\" >&- 2>&-", "unseen");
  // A pipe that nobody reads any more.
  check("mkfifo " + pipe.string() + " && exec 4<>" + pipe.string() + " >" + pipe.string() + " 4>&- && exec \"$0\" \"$@\"",
        "Broken pipe");
#if defined(__linux__)
  check("exec \"$0\" \"$@\" > /dev/full", "No space left on device");
  check("exec \"$0\" \"$@\" > /dev/full 2>&1", "unseen");
  for (const char* option : {"--help", "--version"}) {
    const Outcome o = run_in_shell(folder, "exec \"$0\" \"$@\" > /dev/full", {option});
    CHECK(o.code == 1);
    CHECK(o.err == "train_classifier: standard output: cannot write: No space left on device\n");
  }
  CHECK(run_in_shell(folder, "exec \"$0\" \"$@\" > /dev/full 2>&1", {"--out", out.string()}).code == 2);
#endif
}

TEST_CASE("train_classifier: a limit on the size of files is an error like a full disk") {
  const Folder folder;
  const fs::path out = folder / "out";
  REQUIRE(run(folder, tiny(out, new_shape())).code == 0);
  const auto before = contents(out);
  for (const fs::path& to : {out, folder / "new"}) {
    const Outcome o = run_in_shell(folder, "ulimit -f 8 && exec \"$0\" \"$@\"", tiny(to, joined(new_shape(), {"--overwrite"})));
    INFO(o.err);
    CHECK(o.code == 1);
    CHECK(holds(o.err, "checkpoint.safetensors: cannot write: File too large"));
  }
  CHECK((contents(out) == before));
  CHECK_FALSE(fs::exists(folder / "new"));
}

TEST_CASE("train_classifier: rows from a pipe are those of the file") {
  const Folder folder;
  const auto model_in = [&](const char* out) { return io::read_text(folder / out / "model.safetensors"); };
  const auto piped = [&](const fs::path& out, const Arguments& more) {
    Arguments a = joined(tiny(out, new_shape()), more);
    a[1] = "/dev/stdin";
    return run_in_shell(folder, "cat " + news() + " | \"$0\" \"$@\"", a);
  };
  REQUIRE(run(folder, tiny(folder / "file", new_shape())).code == 0);
  const Outcome o = piped(folder / "piped", {});
  INFO(o.err);
  REQUIRE(o.code == 0);
  for (const char* file : {"vocab.json", "merges.txt", "config.json", "history.csv", "model.safetensors"})
    CHECK((io::read_text(folder / "piped" / file) == io::read_text(folder / "file" / file)));
  CHECK(piped(folder / "piped", {"--resume"}).code == 0);
  CHECK((model_in("piped") == model_in("file")));
  // Trained on and measured on, but read once.
  REQUIRE(run(folder, tiny(folder / "file", joined(new_shape(), {"--test", news(), "--overwrite"}))).code == 0);
  const Outcome both = piped(folder / "piped", {"--test", "/dev/stdin", "--overwrite"});
  INFO(both.err);
  CHECK(both.code == 0);
  CHECK(holds(both.out, "; 400 test rows"));
  CHECK((model_in("piped") == model_in("file")));
  const Outcome none = run_in_shell(folder, ": | \"$0\" \"$@\"", {"--data", "/dev/stdin", "--out", (folder / "none").string()});
  CHECK(none.code == 1);
  CHECK(holds(none.err, "/dev/stdin: expected "));
  CHECK_FALSE(fs::exists(folder / "none"));
}

TEST_CASE("train_classifier: --out is relative to the folder in which the program runs") {
  for (const char* out : {"new", "a/b", "new/", "./new"}) {
    CAPTURE(out);
    const Folder folder;
    const auto run_there = [&](const Arguments& more) {
      const Outcome o = run_in_shell(folder, "cd " + folder.path().string() + " && exec \"$0\" \"$@\"",
                                     joined(tiny(out, joined(new_shape(), {"--qat", "int8"})), more));
      INFO(o.err);
      CHECK(o.code == 0);
      const fs::path made = folder / out;
      REQUIRE(fs::exists(made / "training.json"));
      CHECK(gpt2::Tokenizer::load(made).vocab_size() == gpt2::Model<DenseTensor<float>>::load(made).config.vocab);
      CHECK(gpt2::Model<Int8Tensor<>>::load(made / "int8").config.classes == 4);
      const std::string first = fs::path(out) == "a/b" ? "a" : "new";
      CHECK(lowbit_test::file_names(folder) == std::vector<std::string>{first, "stderr", "stdout"});
      return io::read_text(made / "model.safetensors");
    };
    const std::string model = run_there({});
    CHECK((run_there({"--resume"}) == model));
    CHECK((run_there({"--overwrite"}) == model));
  }
}

}  // namespace train_classifier_test
