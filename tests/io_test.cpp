// SPDX-License-Identifier: MIT
// Files, JSON, safetensors, model folders, config.json and CSV: what is read from valid ones, what is said of invalid ones, and
// that a write that fails leaves everything as it was.  Damaged files at large: io_corruption_test.cpp.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "lowbit/io/csv.hpp"
#include "lowbit/io/file.hpp"
#include "lowbit/io/file_writer.hpp"
#include "lowbit/io/folder_writer.hpp"
#include "lowbit/io/hugging_face.hpp"
#include "lowbit/io/json.hpp"
#include "lowbit/io/model_files.hpp"
#include "lowbit/io/safetensors.hpp"
#include "lowbit/io/safetensors_writer.hpp"
#include "lowbit/io/system_file.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/io_files.hpp"
#include "support/paths.hpp"

#if LOWBIT_POSIX
#include <csignal>
#include <sys/resource.h>
#include <sys/wait.h>
#endif

namespace io_test {

namespace io = lowbit::io;
namespace fs = std::filesystem;
using lowbit::FormatError;
using lowbit::InvalidArgument;
using lowbit::IoError;
using lowbit_test::as_bytes;
using lowbit_test::file_names;
using lowbit_test::Folder;
using lowbit_test::image;
using lowbit_test::put_file;
using lowbit_test::unsaid;

namespace {

io::SafeTensors parse(const std::string& bytes) { return io::SafeTensors::parse(as_bytes(bytes), "m.safetensors"); }

template <class T>
std::string raw(std::initializer_list<T> values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (values.size() != 0) std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}
std::string text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
std::vector<io::TensorToWrite> to_write(const io::SafeTensors& file) {
  std::vector<io::TensorToWrite> result;
  for (const io::TensorView& t : file.tensors()) result.push_back({t.name, t.dtype, t.shape, t.data});
  return result;
}
bool serializes_to_itself(const std::string& bytes) {
  const io::SafeTensors file = parse(bytes);
  const auto again = io::serialize_safetensors(to_write(file), file.metadata());
  return text_of(again) == bytes;
}

}  // namespace

// ---- files
// ------------------------------------------------------------------------------------------------------------------------

TEST_CASE("text in a message is quoted, clean and short") {
  CHECK(io::in_quotes("") == "\"\"");
  CHECK(io::in_quotes("a b") == "\"a b\"");
  CHECK(io::in_quotes(std::string("a\n\0\x1b[31m\x7f", 9)) == "\"a???[31m?\"");
  CHECK(io::in_quotes(std::string(120, 'x')) == "\"" + std::string(120, 'x') + "\"");
  CHECK(io::in_quotes(std::string(121, 'x')) == "\"" + std::string(120, 'x') + "...\"");
  // 119 bytes and a character of three: cut before it, not inside.
  CHECK(io::in_quotes(std::string(119, 'x') + "\xE2\x82\xAC") == "\"" + std::string(119, 'x') + "...\"");
}

TEST_CASE("a mapped file is the file") {
  static_assert(!std::is_copy_constructible_v<io::MappedFile> && std::is_nothrow_move_constructible_v<io::MappedFile>);
  const Folder folder;
  const std::string content = std::string("first\r\n\0last", 12);
  put_file(folder / "a", content);
  put_file(folder / "empty", "");

  io::MappedFile file(folder / "a");
  REQUIRE(file.size() == 12);
  CHECK(text_of(file.bytes()) == content);
  CHECK(io::read_text(folder / "a") == content);

  const std::byte* where = file.data();
  io::MappedFile moved(std::move(file));
  CHECK(moved.data() == where);
  CHECK(file.size() == 0);  // NOLINT: a moved-from file is empty
  io::MappedFile assigned(folder / "empty");
  CHECK(assigned.size() == 0);
  assigned = std::move(moved);
  CHECK(text_of(assigned.bytes()) == content);
  CHECK(io::read_text(folder / "empty").empty());
}

TEST_CASE("what cannot be read is an IoError with the path and the reason") {
  const Folder folder;
  const std::string missing = (folder / "missing").string();
  CHECK(unsaid<IoError>([&] { io::MappedFile file(missing); }, {missing, "cannot open", "No such file"}) == "");
  CHECK(unsaid<IoError>([&] { io::read_text(missing); }, {missing, "No such file"}) == "");
  CHECK(unsaid<IoError>([&] { io::read_text(folder.path()); }, {folder.path().string(), "directory"}) == "");
  put_file(folder / "file", "x");
  CHECK(unsaid<IoError>([&] { io::read_text(folder / "file" / "inside"); }, {"inside", "Not a directory"}) == "");
#if LOWBIT_POSIX
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(unsaid<IoError>([&] { io::read_text(folder / "pipe"); }, {"pipe", "cannot read"}) == "");  // at once: nobody writes
#endif
}

TEST_CASE("an atomic write creates and replaces") {
  const Folder folder;
  const fs::path path = folder / "a";
  io::write_atomically(path, std::string_view("one"));
  CHECK(io::read_text(path) == "one");
  const io::MappedFile before(path);
  io::write_atomically(path, [](io::FileWriter& writer) {
    writer.write("tw");
    writer.write(std::span<const std::byte>());
    writer.write("o, and longer");
  });
  CHECK(io::read_text(path) == "two, and longer");
  CHECK(text_of(before.bytes()) == "one");  // who had it open keeps what he had
  const std::array<std::byte, 2> bytes{std::byte{0}, std::byte{255}};
  io::write_atomically(path, std::span<const std::byte>(bytes));
  CHECK(io::read_text(path) == std::string("\0\xFF", 2));
  io::write_atomically(path, std::string_view(""));
  CHECK(io::read_text(path).empty());
  CHECK(file_names(folder) == std::vector<std::string>{"a"});

  SECTION("a temporary file left behind by a crash is neither used nor lost") {
    put_file(folder / "a.part0", "remains");
    io::write_atomically(path, std::string_view("three"));
    CHECK(io::read_text(path) == "three");
    CHECK(io::read_text(folder / "a.part0") == "remains");
    CHECK(file_names(folder) == std::vector<std::string>{"a", "a.part0"});
  }
#if LOWBIT_POSIX
  SECTION("permissions are inherited") {
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
    io::write_atomically(path, std::string_view("secret"));
    CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  }
  SECTION("a symbolic link is replaced, what it points to is not") {
    put_file(folder / "target", "target");
    fs::create_symlink("target", folder / "link");
    io::write_atomically(folder / "link", std::string_view("new"));
    CHECK(io::read_text(folder / "target") == "target");
    CHECK(io::read_text(folder / "link") == "new");
    CHECK(!fs::is_symlink(folder / "link"));
  }
#endif
}

namespace {

// A folder of two files that say the same; what is found in it, "mixed" if they differ.
void put_pair(const fs::path& folder, const std::string& text) {
  io::write_atomically(folder / "a", text);
  fs::create_directories(folder / "below");
  io::write_atomically(folder / "below/b", text);
}
std::string pair_in(const fs::path& folder) {
  const std::string a = io::read_text(folder / "a");
  return io::read_text(folder / "below/b") == a ? a : "mixed";
}

}  // namespace

TEST_CASE("a folder is written whole, and replaced as a whole") {
  const Folder folder;
  const fs::path path = folder / "not/there/yet";
  io::write_folder_atomically(path, [&](const fs::path& fresh) {
    put_pair(fresh, "one");
    CHECK_FALSE(fs::exists(path));
  });
  CHECK(pair_in(path) == "one");
  put_file(path / "mine", "mine");
  put_file(path / "below/mine", "mine too");
  put_file(path / "gone/old", "old");
  io::write_folder_atomically(
      path / "",
      [&](const fs::path& fresh) {
        put_pair(fresh, "two");
        CHECK(pair_in(path) == "one");
      },
      [](const fs::path& file) { return file != fs::path("gone/old"); });
  CHECK(pair_in(path) == "two");
  CHECK(io::read_text(path / "mine") == "mine");
  CHECK(io::read_text(path / "below/mine") == "mine too");
  CHECK_FALSE(fs::exists(path / "gone"));
  const auto only = [](const fs::path& above) {
    return std::distance(fs::directory_iterator(above), fs::directory_iterator()) == 1;
  };
  CHECK(only(path.parent_path()));
  const auto write = [](const fs::path& to, const std::string& text) {
    io::write_folder_atomically(to, [&](const fs::path& fresh) { put_pair(fresh, text); });
  };

  SECTION("one that cannot be filled leaves nothing, and the old one as it was") {
    struct Mine {};
    for (const fs::path& to : {path, folder / "not/there/new"})
      CHECK_THROWS_AS(io::write_folder_atomically(to,
                                                  [](const fs::path& fresh) {
                                                    io::write_atomically(fresh / "a", std::string_view("half"));
                                                    throw Mine{};
                                                  }),
                      Mine);
    CHECK(pair_in(path) == "two");
    CHECK(only(path.parent_path()));
  }
  SECTION("a folder is not replaced by a file, nor a file by a folder") {
    fs::remove_all(path / "below");
    put_file(path / "below", "file");
    CHECK(unsaid<IoError>([&] { write(path, "three"); }, {(path / "below").string(), "cannot replace", "Not a directory"}) == "");
    CHECK(io::read_text(path / "below") == "file");
    CHECK(io::read_text(path / "a") == "two");
    CHECK(unsaid<IoError>([&] { write(path / "below", "three"); }, {"below: cannot make the folder: Not a directory"}) == "");
    CHECK(only(path.parent_path()));
  }
  SECTION("what a program that was killed left behind is neither used nor lost") {
    put_file(folder / "not/there/yet.part0/a", "remains");
    write(path, "three");
    CHECK(pair_in(path) == "three");
    CHECK(io::read_text(folder / "not/there/yet.part0/a") == "remains");
  }
  SECTION("in two steps, where the system cannot exchange folders") {
    const fs::path fresh = folder / "not/there/fresh";
    fs::create_directory(fresh);
    put_pair(fresh, "three");
    put_file(folder / "not/there/yet.old0", "in the way");
    io::detail::exchange_folders(fs::absolute(fresh), fs::absolute(path), false);
    CHECK(pair_in(path) == "three");
    CHECK(pair_in(fresh) == "two");
    CHECK_FALSE(fs::exists(folder / "not/there/yet.old1"));
    // The second step fails: the first is taken back.
    CHECK_THROWS_AS(io::detail::exchange_folders(folder / "missing", fs::absolute(path), false), IoError);
    CHECK(pair_in(path) == "three");
  }
  SECTION("not where the program runs, and not where something is mounted") {
    for (const fs::path& here : {fs::path("."), fs::path(".."), fs::path(folder.path() / "..")})
      CHECK(unsaid<IoError>([&] { write(here, "three"); }, {"in which the program runs"}) == "");
#if defined(__linux__)
    CHECK(unsaid<IoError>([&] { io::require_replaceable_folder("/proc"); }, {"/proc"}) == "");
    CHECK(io::detail::is_mount_point("/proc"));
    CHECK_FALSE(io::detail::is_mount_point(path));
#endif
  }
#if LOWBIT_POSIX
  SECTION("permissions are inherited, links are followed") {
    fs::permissions(path, fs::perms::owner_all);
    fs::permissions(path / "a", fs::perms::owner_read | fs::perms::owner_write);
    fs::create_symlink("mine", path / "linked");
    fs::create_directory_symlink("yet", folder / "not/there/link");
    write(folder / "not/there/link", "three");
    CHECK(pair_in(path) == "three");
    CHECK(fs::is_symlink(folder / "not/there/link"));
    CHECK(fs::read_symlink(path / "linked") == "mine");
    CHECK(fs::status(path).permissions() == fs::perms::owner_all);
    CHECK(fs::status(path / "a").permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  }
  SECTION("a program that is killed at any time leaves the old one or the new one") {
    std::size_t replaced = 0;
    // Longer and longer where the disk is so slow that no program came to its first folder.
    unsigned longest = 13'000;
    for (unsigned round = 0; round < 40 || replaced == 0; ++round) {
      const ::pid_t child = ::fork();
      REQUIRE(child >= 0);
      if (child == 0) {
        for (int i = 0;; ++i) write(path, std::to_string(round) + "." + std::to_string(i));
      }
      ::usleep(500 + round * 7'919'000 % longest);
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
      const std::string found = pair_in(path);
      REQUIRE(found != "mixed");
      REQUIRE(io::read_text(path / "below/mine") == "mine too");
      replaced += found.starts_with(std::to_string(round) + ".");
      if (replaced == 0 && round >= 20) longest = longest / 4 * 5;
    }
  }
#endif
}

TEST_CASE("a folder with a relative name is written below the current one") {
  struct Here {
    fs::path before = fs::current_path();
    explicit Here(const fs::path& folder) { fs::current_path(folder); }
    ~Here() { fs::current_path(before); }
  };
  for (const fs::path name : {"new", "a/b", "new/", "./new", "a/../new"}) {
    CAPTURE(name.string());
    const Folder folder;
    const fs::path target = fs::absolute(folder / name.lexically_normal().string());
    {
      const Here here(folder.path());
      for (const char* text : {"one", "two"}) {
        CHECK_NOTHROW(io::require_replaceable_folder(name));
        REQUIRE_NOTHROW(io::write_folder_atomically(name, [&](const fs::path& fresh) { put_pair(fresh, text); }));
        CHECK(pair_in(target) == text);
      }
    }
    CHECK(file_names(folder) == std::vector<std::string>{name == "a/b" ? "a" : "new"});
  }
}

TEST_CASE("a write that fails leaves the old file and nothing else") {
  const Folder folder;
  const fs::path path = folder / "a";
  put_file(path, "old");

  SECTION("the callback throws") {
    struct Mine {};
    CHECK_THROWS_AS(io::write_atomically(path,
                                         [](io::FileWriter& writer) {
                                           writer.write("half");
                                           throw Mine{};
                                         }),
                    Mine);
  }
#if LOWBIT_POSIX
  SECTION("the disk is full") {
    // A limit on the size of files stands for it: the system refuses the write in the same way.
    ::rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const ::rlimit small{4096, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const auto with = [&](std::size_t n) {
      return unsaid<IoError>([&] { io::write_atomically(path, std::string(n, 'x')); }, {path.string(), "File too large"});
    };
    const std::string at_once = with(1 << 20), at_the_flush = with(4097);
    const bool restored = ::setrlimit(RLIMIT_FSIZE, &before) == 0;
    std::signal(SIGXFSZ, handler);
    REQUIRE(restored);
    CHECK(at_once == "");
    CHECK(at_the_flush == "");
  }
#endif
  SECTION("the target is a folder") {
    fs::create_directory(folder / "b");
    put_file(folder / "b" / "inside", "");
    const fs::path target = folder / "b";
    CHECK(unsaid<IoError>([&] { io::write_atomically(target, std::string_view("x")); }, {target.string(), "cannot replace"}) == "");
    fs::remove_all(target);
  }
  SECTION("the folder is missing, or no folder") {
    const fs::path missing = folder / "no" / "b", below = path / "b";
    CHECK(unsaid<IoError>([&] { io::write_atomically(missing, std::string_view("x")); }, {missing.string(), "No such file"}) == "");
    CHECK(unsaid<IoError>([&] { io::write_atomically(below, std::string_view("x")); }, {below.string(), "Not a directory"}) == "");
  }
#if LOWBIT_POSIX
  SECTION("the folder is not ours to write") {
    if (::geteuid() == 0) {
      WARN("skipped: root may write everywhere");
    } else {
      fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
      CHECK(unsaid<IoError>([&] { io::write_atomically(path, std::string_view("x")); }, {path.string(), "Permission denied"}) ==
            "");
      fs::permissions(folder.path(), fs::perms::owner_all);
    }
  }
#endif
  SECTION("a tensor file is not valid") {
    const std::vector<io::TensorToWrite> tensors{{"t", io::DType::F32, {2}, as_bytes("1234")}};
    CHECK_THROWS_AS(io::write_safetensors(path, tensors), InvalidArgument);
  }
  CHECK(io::read_text(path) == "old");
  CHECK(file_names(folder) == std::vector<std::string>{"a"});
}

// ---- JSON
// -------------------------------------------------------------------------------------------------------------------------

TEST_CASE("JSON keeps its order and its values") {
  const std::string text = R"( {"z":[1,-2,2.5,true,null,"\u00e9\n"],"a":{"y":{},"b":[]},"big":18446744073709551615} )";
  const io::Json json = io::parse_json(text, "f");
  CHECK(json.dump() == "{\"z\":[1,-2,2.5,true,null,\"\xC3\xA9\\n\"],\"a\":{\"y\":{},\"b\":[]},\"big\":18446744073709551615}");
  CHECK(json.at("big").get<std::uint64_t>() == std::numeric_limits<std::uint64_t>::max());
  CHECK(io::parse_json("7", "f") == 7);
}

TEST_CASE("JSON that is none, or that two readers could take differently, is refused") {
  const auto refuses = [](const std::string& text, std::initializer_list<std::string_view> words) {
    return unsaid<FormatError>([&] { io::parse_json(text, "f.json"); }, words);
  };
  CHECK(refuses("", {"f.json", "not JSON", "is empty"}) == "");
  CHECK(refuses("{", {"f.json", "not JSON", "after 1 bytes", "cut short"}) == "");
  for (const char* cut : {"{\"a", "{\"a\"", "{\"a\": [1, 2", "{\"a\": tr", "{\"a\": 1, ", "[\"\\u00"})
    CHECK(refuses(cut, {"f.json", "not JSON", "cut short"}) == "");
  CHECK(refuses(std::string("{\0\"\0", 4), {"f.json", "expected UTF-8", "UTF-16"}) == "");
  CHECK(refuses("{}x", {"f.json", "not JSON"}) == "");
  CHECK(refuses("{} {}", {"f.json", "not JSON"}) == "");
  CHECK(refuses("{'a':1}", {"not JSON"}) == "");
  CHECK(refuses("[1,]", {"not JSON"}) == "");
  for (const char* wrong : {"[nan]", "[NaNs]", "[1NaN]", "[-NaN]", "[+Infinity]", "[inf]", "NaN NaN"})
    CHECK(refuses(wrong, {"not JSON"}) == "");
  CHECK(refuses("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", {"f.json", "git-LFS pointer", "git lfs pull"}) == "");
  CHECK(refuses("\n <!DOCTYPE html><html>", {"f.json", "HTML page"}) == "");
  CHECK(refuses("[1e999]", {"not JSON"}) == "");
  CHECK(refuses("// comment\n1", {"not JSON"}) == "");
  CHECK(refuses("\"\xFF\"", {"not JSON"}) == "");
  CHECK(refuses(std::string("{}\0", 3), {"f.json", "NUL", "byte 2"}) == "");
  CHECK(refuses(std::string("{\"a\0\":1}", 8), {"NUL"}) == "");
  CHECK(refuses(R"({"a":1,"b":{"a":1},"a":2})", {"f.json", "\"a\"", "twice"}) == "");
  CHECK(refuses(R"({"a":1,"\u0061":2})", {"\"a\"", "twice"}) == "");
  CHECK(refuses(R"([{"x":{"b":1,"b":1}}])", {"\"b\"", "twice"}) == "");
  CHECK_NOTHROW(io::parse_json(R"([{"b":1},{"b":1}])", "f"));
  CHECK_NOTHROW(io::parse_json(std::string(64, '[') + std::string(64, ']'), "f"));
  CHECK(refuses(std::string(65, '[') + std::string(65, ']'), {"64 deep"}) == "");
  CHECK(refuses(std::string(1'000'000, '['), {"64 deep"}) == "");
}

TEST_CASE("many keys take no quadratic time") {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) text += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":0";
  CHECK(io::parse_json(text + "}", "f").size() == 100'000);  // quadratic: 5e9 comparisons, the test would time out
}

TEST_CASE("many labels take no quadratic time") {
  std::string text = R"({"model_type":"gpt2","n_layer":1,"n_head":1,"n_embd":1,"n_positions":1,"vocab_size":1,"id2label":{)";
  constexpr int labels = 200'000;
  for (int i = labels; i-- > 0;) text += "\"" + std::to_string(i) + "\":\"l" + std::to_string(i) + "\"" + (i == 0 ? "}}" : ",");
  const io::HuggingFaceConfig config = io::parse_config(text, "c");
  REQUIRE(config.id2label.size() == labels);
  CHECK(config.id2label[labels - 1] == "l199999");
}

// ---- safetensors: reading
// ---------------------------------------------------------------------------------------------------------

TEST_CASE("every dtype of the format has its name and size") {
  const std::vector<std::pair<std::string, std::size_t>> expected{
      {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},    {"U8", 8},   {"I8", 8},
      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},     {"I16", 16},       {"U16", 16}, {"F16", 16},
      {"BF16", 16},   {"I32", 32},    {"U32", 32},        {"F32", 32},       {"C64", 64}, {"F64", 64},
      {"I64", 64},    {"U64", 64},    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};
  CHECK(expected.size() == io::detail::dtype_table.size());
  for (const auto& [name, bits] : expected) {
    CAPTURE(name);
    const auto dtype = io::dtype_from_name(name);
    REQUIRE(dtype.has_value());
    CHECK(io::dtype_name(*dtype) == name);
    CHECK(io::dtype_bits(*dtype) == bits);
    // Sixteen elements fill whole bytes of every one; the file opens whether or not we can compute with it.
    const std::string data(2 * bits, '\5');
    const std::string file =
        image(R"({"t":{"dtype":")" + name + R"(","shape":[2,8],"data_offsets":[0,)" + std::to_string(2 * bits) + "]}}", data);
    const io::SafeTensors parsed = parse(file);
    CHECK(parsed.at("t").dtype == *dtype);
    CHECK(parsed.at("t").elements() == 16);
    CHECK(text_of(parsed.at("t").data) == data);
  }
  CHECK(!io::dtype_from_name("f32"));
  CHECK(!io::dtype_from_name(""));
  using io::DType;
  CHECK(io::dtype_of<float> == *io::dtype_from_name("F32"));
  CHECK(io::dtype_of<double> == *io::dtype_from_name("F64"));
  CHECK(io::dtype_of<lowbit::Float16> == *io::dtype_from_name("F16"));
  CHECK(io::dtype_of<lowbit::BFloat16> == *io::dtype_from_name("BF16"));
  CHECK(io::dtype_of<std::int8_t> == *io::dtype_from_name("I8"));
  CHECK(io::dtype_of<std::uint8_t> == *io::dtype_from_name("U8"));
  CHECK(io::dtype_of<std::int64_t> == *io::dtype_from_name("I64"));
}

TEST_CASE("JSON as Python writes it: NaN, Infinity, a byte order mark") {
  const auto json = [](const char* text) { return io::parse_json(text, "f.json").dump(); };
  CHECK(json("{\"a\": NaN, \"b\":[-Infinity,Infinity]}") == R"({"a":null,"b":[null,null]})");
  CHECK(json("NaN") == "null");
  CHECK(json(R"({"NaN": "Infinity, NaN", "\"NaN": NaN, "\\": NaN})") == R"({"NaN":"Infinity, NaN","\"NaN":null,"\\":null})");
  CHECK(json("\xEF\xBB\xBF{\"a\":1}") == R"({"a":1})");
  CHECK(io::parse_config(
            "\xEF\xBB\xBF{\"model_type\":\"gpt2\",\"n_layer\":2,\"n_head\":4,\"n_embd\":32,\"n_positions\":16,\"vocab_size\":50,"
            "\"initializer_range\":NaN}",
            "c")
            .layers == 2);
}

TEST_CASE("a file that is another one says what it is") {
  const auto refuses = [](const std::string& bytes, std::initializer_list<std::string_view> words) {
    return unsaid<FormatError>([&] { io::SafeTensors::parse(as_bytes(bytes), "m.safetensors"); }, words);
  };
  CHECK(refuses("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", {"m.safetensors", "git-LFS pointer"}) == "");
  CHECK(refuses("<!DOCTYPE html>\n<html><body>Not found", {"m.safetensors", "HTML page"}) == "");
  CHECK(refuses("<html", {"HTML page"}) == "");
  CHECK(refuses(std::string("PK\3\4") + std::string(30, 'x'), {"zip archive", "save_pretrained"}) == "");
  CHECK(refuses(std::string("\x80\2}q") + std::string(30, 'x'), {"pickle"}) == "");
  CHECK(refuses("GGUF\3    " + std::string(30, 'x'), {"GGUF"}) == "");
  const lowbit_test::Folder folder;
  lowbit_test::put_file(folder / "pytorch_model.bin", "PK");
  CHECK(unsaid<lowbit::IoError>([&] { io::ModelFiles::open(folder.path()); }, {"only pytorch_model.bin", "safetensors"}) == "");
  const lowbit_test::Folder other;
  lowbit_test::put_file(other / "m.gguf", "GGUF");
  CHECK(unsaid<lowbit::IoError>([&] { io::ModelFiles::open(other.path()); }, {"only m.gguf; give that file"}) == "");
}

TEST_CASE("a header as long as the first bytes of another kind of file say is a header") {
  for (const std::size_t length : {0x0280u, 0x0480u, 0x8B1Fu, 0x10280u}) {  // two pickles, a gzip archive, a pickle again
    CAPTURE(length);
    std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    header.resize(length, ' ');
    const std::string image = lowbit_test::image(header, "x");
    CHECK(io::SafeTensors::parse(as_bytes(image), "m").contains("a"));
  }
}

TEST_CASE("__metadata__ may be null") {
  const std::string image = lowbit_test::image(R"({"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x");
  const auto file = io::SafeTensors::parse(as_bytes(image), "m");
  CHECK(file.metadata().empty());
  CHECK(file.contains("a"));
}

TEST_CASE("a file with scalars, empty tensors and metadata is read as it stands") {
  // The header's order differs from the order of the bytes; the empty tensor lies between two others.
  const std::string header = R"({"__metadata__":{"z":"1","format":"pt","\u00e9":"\"q\""},)"
                             R"("last":{"dtype":"I16","shape":[1,1],"data_offsets":[12,14]},)"
                             R"("matrix":{"data_offsets":[0,8],"shape":[2,1],"dtype":"F32"},)"
                             R"("none":{"dtype":"F64","shape":[3,0,7],"data_offsets":[8,8]},)"
                             R"("scalar":{"dtype":"I32","shape":[],"data_offsets":[8,12]}}   )";
  const std::string file = image(header, raw({1.5f, -2.f}) + raw<std::int32_t>({-7}) + raw<std::int16_t>({300}));
  const io::SafeTensors parsed = parse(file);
  CHECK(parsed.location() == "m.safetensors");
  CHECK(parsed.names() == std::vector<std::string>{"matrix", "none", "scalar", "last"});
  CHECK(parsed.metadata() == io::Metadata{{"z", "1"}, {"format", "pt"}, {"\xC3\xA9", "\"q\""}});
  CHECK(parsed.contains("none"));
  CHECK(!parsed.contains("non"));
  CHECK(!parsed.contains("__metadata__"));

  const io::TensorView& matrix = parsed.at("matrix");
  CHECK(matrix.name == "matrix");
  CHECK(matrix.shape == std::vector<std::size_t>{2, 1});
  CHECK(static_cast<const void*>(matrix.data.data()) == file.data() + 8 + header.size());  // no copy
  CHECK(matrix.copy<float>()[1] == -2.f);
  CHECK(parsed.at("scalar").shape.empty());
  CHECK(parsed.at("scalar").elements() == 1);
  CHECK(parsed.at("scalar").copy<std::int32_t>()[0] == -7);
  CHECK(parsed.at("last").copy<std::int16_t>()[0] == 300);
  CHECK(parsed.at("none").shape == std::vector<std::size_t>{3, 0, 7});
  CHECK(parsed.at("none").elements() == 0);
  CHECK(parsed.at("none").copy<double>().empty());
  CHECK(parsed.at("none").as_span<double>().empty());

  const io::SafeTensors nothing = parse(image("{}", ""));
  CHECK(nothing.names().empty());
  CHECK(unsaid<FormatError>([&] { (void)nothing.at("x"); }, {"m.safetensors", "no tensor \"x\""}) == "");
}

TEST_CASE("an open file is mapped, and can be moved and replaced while it is open") {
  const Folder folder;
  const fs::path path = folder / "m.safetensors";
  put_file(path, image(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "abcd"));
  io::SafeTensors first = io::SafeTensors::open(path);
  const io::TensorView& view = first.at("t");
  const io::SafeTensors file = std::move(first);
  CHECK(&file.at("t") == &view);
  const std::vector<io::TensorToWrite> tensors{{"u", view.dtype, view.shape, view.data}};
  io::write_safetensors(path, tensors);
  CHECK(text_of(view.data) == "abcd");
  CHECK(text_of(io::SafeTensors::open(path).at("u").data) == "abcd");
  CHECK(unsaid<FormatError>([&] { view.check_dtype(io::DType::I8); }, {path.string(), "\"t\"", "expected dtype I8", "found U8"}) ==
        "");
  CHECK_THROWS_AS(io::SafeTensors::open(folder / "missing"), IoError);
  put_file(folder / "empty", "");
  CHECK_THROWS_AS(io::SafeTensors::open(folder / "empty"), FormatError);
}

TEST_CASE("a missing tensor is named with the names nearest to it") {
  std::string header = "{";
  for (const char* name : {"transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias", "score", "x", "transformer.wte.weight"})
    header += std::string(header.size() == 1 ? "" : ",") + "\"" + name + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  const std::string file = image(header + "}", "");
  const io::SafeTensors parsed = parse(file);
  CHECK(unsaid<FormatError>([&] { (void)parsed.at("h.0.ln_1.weight"); },
                            {"m.safetensors: no tensor \"h.0.ln_1.weight\"; nearest: \"transformer.h.0.ln_1.weight\", "}) == "");
  CHECK(unsaid<FormatError>(
            [&] { (void)parsed.at("transformer.h.0.ln_l.bias"); },
            {"nearest: \"transformer.h.0.ln_1.bias\", \"transformer.h.0.ln_1.weight\", \"transformer.wte.weight\""}) == "");
  std::string message;
  try {
    (void)parsed.at("???");
  } catch (const FormatError& e) {
    message = e.what();
  }
  CHECK(message == "m.safetensors: no tensor \"???\"");
}

TEST_CASE("typed access: dtype and alignment are checked") {
  // One byte first, so that the floats are not aligned.
  const std::string file =
      image(R"({"b":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}    )",
            "\x80" + raw({0.25f, -3.f}));
  std::vector<std::byte> aligned(file.size() + 8);
  std::size_t shift = 0;
  const std::size_t header_end = file.size() - 9;
  while ((reinterpret_cast<std::uintptr_t>(aligned.data()) + shift + header_end) % 4 != 0) ++shift;
  std::memcpy(aligned.data() + shift, file.data(), file.size());
  const io::SafeTensors odd = io::SafeTensors::parse({aligned.data() + shift, file.size()}, "m");
  CHECK(odd.at("b").as_span<std::int8_t>()[0] == -128);
  CHECK(!odd.at("f").is_aligned<float>());
  CHECK(unsaid<FormatError>([&] { (void)odd.at("f").as_span<float>(); }, {"m: tensor \"f\"", "multiple of 4", "copy"}) == "");
  CHECK(odd.at("f").copy<float>()[0] == 0.25f);
  CHECK(odd.at("f").copy<float>()[1] == -3.f);
  CHECK(unsaid<FormatError>([&] { (void)odd.at("f").as_span<std::int32_t>(); }, {"\"f\"", "expected dtype I32", "found F32"}) ==
        "");
  CHECK(unsaid<FormatError>([&] { (void)odd.at("f").copy<double>(); }, {"\"f\"", "expected dtype F64", "found F32"}) == "");
  CHECK_NOTHROW(odd.at("f").check_shape({2}));
  CHECK(unsaid<FormatError>([&] { odd.at("f").check_shape({2, 1}); }, {"\"f\"", "expected shape [2, 1]", "found [2]"}) == "");

  std::memmove(aligned.data() + (shift == 0 ? 3 : shift - 1), aligned.data() + shift, file.size());
  const io::SafeTensors even = io::SafeTensors::parse({aligned.data() + (shift == 0 ? 3 : shift - 1), file.size()}, "m");
  REQUIRE(even.at("f").is_aligned<float>());
  const std::span<const float> floats = even.at("f").as_span<float>();
  CHECK(static_cast<const void*>(floats.data()) == even.at("f").data.data());
  CHECK(floats.size() == 2);
  CHECK(floats[1] == -3.f);
}

TEST_CASE("read_floats converts exactly, and F64 to nearest even") {
  const auto bits_read = [](const char* dtype, const std::string& data, std::size_t n) {
    const std::string file = image(std::string(R"({"t":{"dtype":")") + dtype + R"(","shape":[)" + std::to_string(n) +
                                       R"(],"data_offsets":[0,)" + std::to_string(data.size()) + "]}}",
                                   data);
    std::vector<float> values(n);
    io::read_floats(parse(file).at("t"), values);
    return lowbit_test::bits_of(values);
  };
  using Bits = std::vector<std::uint32_t>;
  const double ulp = 0x1p-23;
  CHECK(bits_read("F64", raw({1.0, 1 + ulp / 2, 1 + 1.5 * ulp, 1 + ulp / 2 + 1e-15, -0.0, 0x1p-150}), 6) ==
        Bits{0x3F800000, 0x3F800000, 0x3F800002, 0x3F800001, 0x80000000, 0});
  CHECK(bits_read("F64", raw<std::uint64_t>({0x47EFFFFFEFFFFFFF, 0x47EFFFFFF0000000, 0xFE37E43C8800759C, 0x7FF0000000000000}), 4) ==
        Bits{0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800000});
#if !defined(__FAST_MATH__)  // there the program flushes subnormals
  CHECK(bits_read("F64", raw({0x1p-149, 0x1.8p-149, 0x1.8p-127}), 3) == Bits{1, 2, 0x00600000});
#endif
  CHECK(bits_read("F32", raw<std::uint32_t>({0x3F800000, 0x80000001, 0x7F800001, 0xFFFFFFFF}), 4) ==
        Bits{0x3F800000, 0x80000001, 0x7F800001, 0xFFFFFFFF});
  CHECK(bits_read("F16", raw<std::uint16_t>({0x3C01, 0x0001, 0x83FF, 0x7BFF, 0xFC00, 0x8000}), 6) ==
        Bits{0x3F802000, 0x33800000, 0xB87FC000, 0x477FE000, 0xFF800000, 0x80000000});
  CHECK(bits_read("BF16", raw<std::uint16_t>({0x3F80, 0x0001, 0xFF80, 0x7FC0}), 4) ==
        Bits{0x3F800000, 0x00010000, 0xFF800000, 0x7FC00000});
  CHECK(bits_read("BF16", "", 0).empty());
  CHECK(bits_read("F32", "", 0).empty());

  const std::string file = image(R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "x");
  std::array<float, 2> two{};
  const io::SafeTensors parsed = parse(file);
  CHECK(unsaid<FormatError>([&] { io::read_floats(parsed.at("t"), std::span(two).first(1)); }, {"\"t\"", "float", "found I8"}) ==
        "");
  CHECK(unsaid<InvalidArgument>([&] { io::read_floats(parsed.at("t"), two); }, {"\"t\"", "2 floats", "has 1"}) == "");
}

TEST_CASE("an invalid header is refused with file, tensor, expected and found") {
  const auto refuses = [](const std::string& header, const std::string& data, std::initializer_list<std::string_view> words) {
    const std::string file = image(header, data);
    return unsaid<FormatError>([&] { parse(file); }, words);
  };
  const auto one = [&](const std::string& fields, std::initializer_list<std::string_view> words) {
    const std::string unsaid_words = refuses(R"({"t":{)" + fields + "}}", "12345678", words);
    return unsaid_words.empty() ? refuses(R"({"t":{)" + fields + "}}", "12345678", {"m.safetensors: tensor \"t\": "})
                                : unsaid_words;
  };
  // The frame: no panic over lengths, whatever they claim.
  for (std::size_t n = 0; n < 8; ++n)
    CHECK(unsaid<FormatError>([&] { parse(std::string(n, '\0')); }, {"m.safetensors", "8 bytes", std::to_string(n)}) == "");
  for (const std::uint64_t length : {std::uint64_t{100'000'001}, std::uint64_t{1} << 63, std::numeric_limits<std::uint64_t>::max()})
    CHECK(unsaid<FormatError>([&] { parse(raw({length}) + "{}"); }, {"at most 100000000", std::to_string(length)}) == "");
  for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{100'000'000}})
    CHECK(unsaid<FormatError>([&] { parse(raw({length}) + "{}"); }, {"header of " + std::to_string(length), "found 2"}) == "");
  CHECK(refuses("", "", {"starts with {"}) == "");
  CHECK(refuses(" {}", "", {"starts with {"}) == "");
  CHECK(refuses("[]", "", {"starts with {", "[]"}) == "");
  CHECK(refuses("{} }", "", {"m.safetensors: header: not JSON"}) == "");
  CHECK(refuses("{", "", {"m.safetensors: header: not JSON"}) == "");
  CHECK(refuses(std::string("{}\0\0", 4), "", {"header", "NUL"}) == "");
  CHECK(refuses("{}", "x", {"expected 0 bytes", "found 1"}) == "");
  CHECK(refuses(R"({"__metadata__":{}})", "x", {"expected 0 bytes", "found 1"}) == "");
  CHECK(refuses(R"({"__metadata__":[]})", "", {"__metadata__", "expected an object", "array"}) == "");
  CHECK(refuses(R"({"__metadata__":{"a":1}})", "", {"__metadata__", "\"a\"", "expected a string", "number"}) == "");
  CHECK(refuses(R"({"__metadata__":{"a":"1","a":"1"}})", "", {"\"a\"", "twice"}) == "");
  CHECK(refuses(R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", "",
                {"\"t\"", "twice"}) == "");
  CHECK(refuses(R"({"t":7})", "", {"\"t\"", "expected an object", "number"}) == "");

  // One tensor of 8 bytes.
  CHECK(one(R"("shape":[8],"data_offsets":[0,8])", {"no dtype"}) == "");
  CHECK(one(R"("dtype":"U8","data_offsets":[0,8])", {"no shape"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8])", {"no data_offsets"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8],"offsets":[0,8])", {"found \"offsets\""}) == "");
  CHECK(one(R"("dtype":"U7","shape":[8],"data_offsets":[0,8])", {"dtype", "\"U7\""}) == "");
  CHECK(one(R"("dtype":8,"shape":[8],"data_offsets":[0,8])", {"dtype", "found 8"}) == "");
  CHECK(one(R"("dtype":"U8","shape":8,"data_offsets":[0,8])", {"shape", "expected an array", "number"}) == "");
  CHECK(one(R"("dtype":"U8","shape":{},"data_offsets":[0,8])", {"shape", "expected an array", "object"}) == "");
  for (const char* bad : {"-8", "8.0", "8e0", "18446744073709551616", "-0.0"})
    CHECK(one(std::string(R"("dtype":"U8","shape":[)") + bad + R"(],"data_offsets":[0,8])",
              {"shape", "expected integers from 0"}) == "");
  for (const char* bad : {"null", "true", "\"8\"", "[8]"})
    CHECK(one(std::string(R"("dtype":"U8","shape":[)") + bad + R"(],"data_offsets":[0,8])",
              {"shape", "expected integers from 0"}) == "");
  // Products that wrap round to 8, or to 0.
  for (const char* bad : {"18446744073709551615,8", "4294967296,4294967296", "9223372036854775808,2", "3,6148914691236517208",
                          "2305843009213693953,8", "9223372036854775808,9223372036854775808,0"})
    CHECK(one(std::string(R"("dtype":"U8","shape":[)") + bad + R"(],"data_offsets":[0,8])", {"fits in a size", "of U8"}) == "");
  CHECK(one(R"("dtype":"F64","shape":[2305843009213693953],"data_offsets":[0,8])", {"fits in a size", "F64"}) == "");
  CHECK(one(R"("dtype":"F4","shape":[15],"data_offsets":[0,8])", {"whole bytes", "[15] of F4"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8],"data_offsets":[0,9])", {"begin <= end <= 8", "[0, 9]"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8],"data_offsets":[8,0])", {"begin <= end <= 8", "[8, 0]"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[0],"data_offsets":[9,9])", {"begin <= end <= 8", "[9, 9]"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8],"data_offsets":[18446744073709551608,18446744073709551615])", {"begin <= end <= 8"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8],"data_offsets":[-8,0])", {"data_offsets", "expected integers from 0", "-8"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8],"data_offsets":[0])", {"data_offsets", "expected 2", "found 1"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[8],"data_offsets":[0,8,8])", {"data_offsets", "expected 2", "found 3"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[7],"data_offsets":[0,8])", {"expected 7 bytes for [7] of U8", "found 8"}) == "");
  CHECK(one(R"("dtype":"F32","shape":[],"data_offsets":[0,8])", {"expected 4 bytes for [] of F32", "found 8"}) == "");
  CHECK(one(R"("dtype":"U8","shape":[4],"data_offsets":[4,8])", {"from offset 0", "found 4 (hole)"}) == "");
  CHECK(refuses(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "12345678", {"expected 4 bytes", "found 8"}) == "");

  const auto two = [&](int a, int b, int c, int d, std::initializer_list<std::string_view> words) {
    const auto entry = [](int begin, int end) {
      return R"({"dtype":"U8","shape":[)" + std::to_string(end - begin) + R"(],"data_offsets":[)" + std::to_string(begin) + "," +
             std::to_string(end) + "]}";
    };
    return refuses("{\"p\":" + entry(a, b) + ",\"q\":" + entry(c, d) + "}", "12345678", words);
  };
  CHECK(two(0, 4, 3, 8, {"\"q\"", "from offset 4", "found 3 (overlap)"}) == "");
  CHECK(two(0, 8, 0, 8, {"\"q\"", "from offset 8", "found 0 (overlap)"}) == "");
  CHECK(two(0, 8, 4, 4, {"\"q\"", "(overlap)"}) == "");
  CHECK(two(5, 8, 0, 4, {"\"p\"", "from offset 4", "found 5 (hole)"}) == "");
  CHECK(two(0, 4, 4, 7, {"expected 7 bytes", "found 8"}) == "");
}

// ---- safetensors: writing
// ---------------------------------------------------------------------------------------------------------

TEST_CASE("a written file has exactly the bytes that the format describes") {
  const std::string f = raw({1.f, 2.f});
  const std::vector<io::TensorToWrite> tensors{{"b/\"\xC3\xA9\n\x01", io::DType::F32, {1, 2}, as_bytes(f)},
                                               {"a", io::DType::U8, {}, as_bytes("x")},
                                               {"none", io::DType::BF16, {0, 4}, {}}};
  // Written out by hand: compact, metadata first, the given order, then spaces up to a multiple of 8.
  std::string header =
      R"({"__metadata__":{"format":"pt","a":"\\"},"b/\")"
      "\xC3\xA9"
      R"(\n\u0001":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[],"data_offsets":[8,9]},)"
      R"("none":{"dtype":"BF16","shape":[0,4],"data_offsets":[9,9]}})";
  while (header.size() % 8 != 0) header += ' ';
  const std::string expected = image(header, f + "x");
  const io::Metadata metadata{{"format", "pt"}, {"a", "\\"}};
  CHECK(text_of(io::serialize_safetensors(tensors, metadata)) == expected);
  CHECK(io::safetensors_header(tensors, metadata) == expected.substr(0, 8 + header.size()));
  CHECK(text_of(io::serialize_safetensors({})) == image("{}      ", ""));

  const Folder folder;
  io::write_safetensors(folder / "m", tensors, metadata);
  CHECK(io::read_text(folder / "m") == expected);
  CHECK(serializes_to_itself(expected));
  CHECK(serializes_to_itself(image("{}      ", "")));
}

TEST_CASE("what cannot be written is refused") {
  const auto refuses = [](const std::vector<io::TensorToWrite>& tensors, const io::Metadata& metadata,
                          std::initializer_list<std::string_view> words) {
    return unsaid<InvalidArgument>([&] { io::serialize_safetensors(tensors, metadata); }, words);
  };
  const io::TensorToWrite ok{"t", io::DType::U8, {1}, as_bytes("x")};
  CHECK(refuses({ok, ok}, {}, {"\"t\"", "twice"}) == "");
  CHECK(refuses({{"__metadata__", io::DType::U8, {1}, as_bytes("x")}}, {}, {"__metadata__", "reserved"}) == "");
  CHECK(refuses({{"t", io::DType::F16, {1}, as_bytes("x")}}, {}, {"\"t\"", "[1] of F16", "1 bytes"}) == "");
  CHECK(refuses({{"t", io::DType::F4, {1}, as_bytes("x")}}, {}, {"[1] of F4"}) == "");
  CHECK(refuses({{"t", io::DType::U8, {SIZE_MAX, 2}, as_bytes("x")}}, {}, {"of U8"}) == "");
  CHECK(refuses({{"\xFF", io::DType::U8, {1}, as_bytes("x")}}, {}, {"tensor name", "UTF-8"}) == "");
  CHECK(refuses({ok}, {{"k", "\xC3"}}, {"metadata value", "UTF-8"}) == "");
  CHECK(refuses({ok}, {{"\x80", ""}}, {"metadata key", "UTF-8"}) == "");
  CHECK(refuses({ok}, {{"k", ""}, {"k", ""}}, {"\"k\"", "twice"}) == "");
}

TEST_CASE("a header above the limit is not written", "[.full]") {
  const io::Metadata metadata{{"k", std::string(100'000'000, 'x')}};  // NOLINT(bugprone-string-constructor)
  CHECK(unsaid<InvalidArgument>([&] { io::serialize_safetensors({}, metadata); }, {"header of 1000000", "too long"}) == "");
}

TEST_CASE("files of other producers: every tensor as an independent reader sees it, and the same bytes again") {
  const auto check = [](const std::string& path) {
    INFO(path);
    const lowbit_test::GoldenFile oracle(path);
    const io::SafeTensors file = io::SafeTensors::open(path);
    std::size_t tensors = 0;
    for (const auto& [name, entry] : oracle.header().items()) {
      if (name == "__metadata__") continue;
      ++tensors;
      const io::TensorView& tensor = file.at(name);
      CHECK(io::dtype_name(tensor.dtype) == entry.at("dtype").get<std::string>());
      CHECK(tensor.shape == entry.at("shape").get<std::vector<std::size_t>>());
      const auto bytes = oracle.get<char>(name, entry.at("dtype").get<std::string>());
      CHECK(text_of(tensor.data) == std::string(bytes.begin(), bytes.end()));
    }
    CHECK(tensors > 0);
    CHECK(file.tensors().size() == tensors);
    CHECK(serializes_to_itself(io::read_text(path)));
  };
  check(lowbit_test::data_path("model/tiny_4bit.safetensors"));
  check(lowbit_test::data_path("model/tiny_8bit.safetensors"));
  const fs::path shared = lowbit::testing::shared_dir();
  if (shared.empty()) {
    WARN("LOWBIT_SHARED_DIR is not set: the larger golden files were skipped");
    return;
  }
  for (const char* name : {"ag_news_test_tokens", "bnb_cuda", "gpt2_tiny_gradients", "reference_logits"})
    check((shared / "golden" / (name + std::string(".safetensors"))).string());
}

// ---- model folders
// ----------------------------------------------------------------------------------------------------------------

TEST_CASE("a folder with one file, an index with several, and the file itself look the same") {
  const auto u8 = [](const char* name) {
    return std::string("\"").append(name) + R"(":{"dtype":"U8","shape":[2],"data_offsets":[)";
  };
  const Folder folder;
  put_file(folder / "one" / "model.safetensors",
           image("{" + u8("a") + "0,2]}," + u8("b") + "2,4]}," + u8("c") + "4,6]}}", "aabbcc"));
  const fs::path many = folder / "many";
  // Order of the index; "a" lies in both shards, and the index says which one counts; "stray" is in no index.
  put_file(many / "model.safetensors.index.json",
           R"({"metadata":{"total_size":6},"weight_map":{"c":"s2.safetensors","a":"s1.safetensors","b":"s2.safetensors"}})");
  put_file(many / "s1.safetensors", image("{" + u8("a") + "0,2]}}", "aa"));
  put_file(many / "s2.safetensors",
           image("{" + u8("b") + "0,2]}," + u8("c") + "2,4]}," + u8("a") + "4,6]}," + u8("stray") + "6,8]}}", "bbccXXYY"));

  const auto same = [](const io::TensorSource& source) {
    for (const char* name : {"a", "b", "c"})
      if (!source.contains(name) || text_of(source.at(name).data) != std::string(2, name[0]) ||
          &source.at(name) != &source.at(name))
        return false;
    return !source.contains("stray") && !source.contains("");
  };
  CHECK(same(io::open_folder_or_file(folder / "one")));
  CHECK(same(io::open_folder_or_file(folder / "one" / "model.safetensors")));
  const io::ModelFiles sharded = io::open_folder_or_file(many);
  CHECK(same(sharded));
  CHECK(same(io::open_folder_or_file(many / "model.safetensors.index.json")));
  CHECK(sharded.shards().size() == 2);  // three tensors, two files, each opened once
  CHECK(sharded.names() == std::vector<std::string>{"c", "a", "b"});
  CHECK(io::open_folder_or_file(folder / "one").names() == std::vector<std::string>{"a", "b", "c"});
  CHECK(unsaid<FormatError>([&] { (void)sharded.at("bb"); },
                            {"model.safetensors.index.json", "no tensor \"bb\"", "nearest", "\"b\""}) == "");

  // Where both are present the single file counts, as in transformers.
  put_file(many / "model.safetensors", image("{" + u8("only") + "0,2]}}", "oo"));
  CHECK(io::open_folder_or_file(many).names() == std::vector<std::string>{"only"});
}

TEST_CASE("a broken model folder is refused") {
  const Folder folder;
  const fs::path index = folder / "model.safetensors.index.json";
  put_file(folder / "s.safetensors", image(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "a"));
  put_file(folder / "bad.safetensors", "no tensors");
  fs::create_directory(folder / "empty");
  CHECK(unsaid<IoError>([&] { io::open_folder_or_file(folder / "empty"); }, {(folder / "empty").string(), "neither"}) == "");
  CHECK(unsaid<IoError>([&] { io::open_folder_or_file(folder / "nowhere"); }, {"nowhere", "No such file"}) == "");

  const auto refuses = [&](const std::string& text, std::initializer_list<std::string_view> words) {
    put_file(index, text);
    return unsaid<FormatError>([&] { io::open_folder_or_file(folder.path()); }, words);
  };
  CHECK(refuses("", {index.string(), "not JSON"}) == "");
  CHECK(refuses("[]", {index.string(), "expected an object", "array"}) == "");
  CHECK(refuses("{}", {index.string(), "weight_map"}) == "");
  CHECK(refuses(R"({"weight_map":[]})", {"weight_map"}) == "");
  CHECK(refuses(R"({"weight_map":{"a":1}})", {"weight_map", "\"a\"", "file name", "number"}) == "");
  CHECK(refuses(R"({"weight_map":{"a":"s.safetensors","a":"s.safetensors"}})", {"\"a\"", "twice"}) == "");
  CHECK(refuses(R"({"weight_map":{"a":"t.safetensors"}})", {index.string(), "\"a\"", "\"t.safetensors\"", "missing"}) == "");
  CHECK(refuses(R"({"weight_map":{"a":"s.safetensors","b":"s.safetensors"}})",
                {index.string(), "\"b\"", "\"s.safetensors\"", "no such tensor"}) == "");
  CHECK(refuses(R"({"weight_map":{"a":"bad.safetensors"}})", {"bad.safetensors"}) == "");
  for (const char* outside : {"", ".", "..", "../s.safetensors", "/etc/passwd", "x/s.safetensors", "..\\\\s", "C:s", "s\\u0000"})
    CHECK(refuses(std::string(R"({"weight_map":{"a":")") + outside + "\"}}", {"\"a\"", "in the same folder"}) == "");
  CHECK_NOTHROW((put_file(index, R"({"weight_map":{"a":"s.safetensors"}})"), io::open_folder_or_file(folder.path())));
}

// ---- config.json
// ------------------------------------------------------------------------------------------------------------------

namespace {
// A valid configuration with one key replaced or added, or (empty value) taken out.
std::string config(const std::string& key = "", const std::string& value = "") {
  const std::vector<std::pair<std::string, std::string>> valid{
      {"model_type", "\"gpt2\""}, {"n_layer", "2"}, {"n_head", "4"}, {"n_embd", "32"}, {"n_positions", "16"}, {"vocab_size", "50"}};
  std::string text = "{";
  bool replaced = key.empty();
  const auto add = [&](const std::string& k, const std::string& v) {
    if (!v.empty()) text += (text.size() == 1 ? "\"" : ",\"") + k + "\":" + v;
  };
  for (const auto& [k, v] : valid) {
    replaced |= k == key;
    add(k, k == key ? value : v);
  }
  if (!replaced) add(key, value);
  return text + "}";
}
}  // namespace

TEST_CASE("a minimal config.json has GPT-2's defaults") {
  const io::HuggingFaceConfig c = io::parse_config(config(), "c");
  CHECK(c.layers == 2);
  CHECK(c.heads == 4);
  CHECK(c.width == 32);
  CHECK(c.positions == 16);
  CHECK(c.vocab == 50);
  CHECK(c.inner == 128);
  CHECK(c.layer_norm_epsilon == 1e-5);
  CHECK(c.activation == "gelu_new");
  CHECK(c.tied_embeddings);
  CHECK(c.eos_ids.empty());
  CHECK(!c.pad_id);
  CHECK(c.architectures.empty());
  CHECK(c.id2label.empty());
  CHECK(c.torch_dtype.empty());
  CHECK(!c.quantization);
  CHECK(!c.lowbit_quantization);
}

TEST_CASE("a full config.json is read in full") {
  const std::string text = R"({
    "model_type": "gpt2", "architectures": ["GPT2ForSequenceClassification", "Other"], "n_layer": 12, "n_head": 12, "n_embd": 768,
    "n_inner": 3000, "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257, "layer_norm_epsilon": 0.001, "activation_function": "relu",
    "eos_token_id": 50256, "pad_token_id": 0, "tie_word_embeddings": false, "scale_attn_weights": true, "summary_type": "cls_index",
    "id2label": {"10": "k", "1": "b", "2": "c", "0": "a", "3": "d", "4": "e", "5": "f", "6": "g", "7": "h", "8": "i", "9": "j"},
    "torch_dtype": "float16",
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"},
    "lowbit_quantization": {"method": "qat-int8", "weight": "per-row absmax/127", "activation": "per-token absmax/127"}})";
  const Folder folder;
  put_file(folder / "config.json", text);
  const io::HuggingFaceConfig c = io::read_config(folder.path());
  CHECK(c.inner == 3000);
  CHECK(c.layer_norm_epsilon == 0.001);
  CHECK(c.activation == "relu");
  CHECK(!c.tied_embeddings);
  CHECK(c.eos_ids == std::vector<std::size_t>{50256});
  CHECK(c.pad_id == 0u);
  CHECK(c.architectures == std::vector<std::string>{"GPT2ForSequenceClassification", "Other"});
  CHECK(c.id2label == std::vector<std::string>{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"});
  CHECK(c.torch_dtype == "float16");
  REQUIRE(c.quantization);
  CHECK(c.quantization->at("bnb_4bit_quant_type") == "nf4");
  REQUIRE(c.lowbit_quantization);
  CHECK(c.lowbit_quantization->method == "qat-int8");
  CHECK(c.lowbit_quantization->weight == "per-row absmax/127");
  CHECK(c.lowbit_quantization->activation == "per-token absmax/127");
  CHECK(io::read_config(folder / "config.json").width == 768);
  CHECK(unsaid<IoError>([&] { io::read_config(folder / "none"); }, {"none", "No such file"}) == "");
  CHECK(io::parse_config(config("dtype", "\"bfloat16\""), "c").torch_dtype == "bfloat16");
  CHECK(io::parse_config(config("n_inner", "null"), "c").inner == 128);
  CHECK(io::parse_config(config("id2label", "{}"), "c").id2label.empty());
  CHECK(io::parse_config(config("quantization_config", R"({"load_in_8bit":true})"), "c").quantization.has_value());
}

TEST_CASE("config.json: token ids that are none are passed over") {
  const auto eos = [](const char* value) { return io::parse_config(config("eos_token_id", value), "c").eos_ids; };
  const auto pad = [](const char* value) { return io::parse_config(config("pad_token_id", value), "c").pad_id; };
  using Ids = std::vector<std::size_t>;
  CHECK(eos("49") == Ids{49});
  CHECK(eos("[3, 50, -1, 7]") == Ids{3, 7});
  for (const char* none : {"50", "-1", "null", "[]", "[null]", "1.5", "\"49\"", "18446744073709551615", "{}"}) {
    INFO(none);
    CHECK(eos(none).empty());
    CHECK(!pad(none));
  }
  CHECK(pad("0") == 0u);
}

TEST_CASE("config.json: what is missing, of the wrong type or absurd is refused") {
  const auto refuses = [](const std::string& key, const std::string& value, std::initializer_list<std::string_view> words) {
    const auto read = [&] { io::parse_config(config(key, value), "c.json"); };
    const std::string unsaid_words = unsaid<FormatError>(read, words);
    return unsaid_words.empty() ? unsaid<FormatError>(read, {"c.json: ", key}) : unsaid_words;
  };
  CHECK(unsaid<FormatError>([] { io::parse_config("", "c.json"); }, {"c.json", "not JSON"}) == "");
  CHECK(unsaid<FormatError>([] { io::parse_config("[]", "c.json"); }, {"c.json", "expected an object", "array"}) == "");
  CHECK(unsaid<FormatError>([] { io::parse_config(R"({"n_head":1,"n_head":2})", "c.json"); }, {"c.json", "n_head", "twice"}) == "");
  CHECK(refuses("model_type", "", {"expected \"gpt2\"", "found nothing"}) == "");
  CHECK(refuses("model_type", "\"llama\"", {"expected \"gpt2\"", "found \"llama\""}) == "");
  CHECK(refuses("model_type", "2", {"string", "found 2"}) == "");
  for (const char* key : {"n_layer", "n_head", "n_embd", "n_positions", "vocab_size"}) {
    CHECK(refuses(key, "", {"expected an integer from 1", "found nothing"}) == "");
    CHECK(refuses(key, "null", {"expected an integer from 1", "found nothing"}) == "");
    CHECK(refuses(key, "0", {"expected an integer from 1", "found 0"}) == "");
    CHECK(refuses(key, "-1", {"expected an integer from 1", "found -1"}) == "");
    CHECK(refuses(key, "4.0", {"expected an integer", "found 4.0"}) == "");
    CHECK(refuses(key, "\"4\"", {"expected an integer", "found \"4\""}) == "");
    CHECK(refuses(key, "[4]", {"expected an integer", "found array"}) == "");
    CHECK(refuses(key, "true", {"expected an integer", "found boolean"}) == "");
    CHECK(refuses(key, "18446744073709551615", {"expected an integer", "found 18446744073709551615"}) == "");
  }
  CHECK(refuses("n_head", "3", {"divisor of n_embd = 32", "found 3"}) == "");
  CHECK(refuses("n_head", "33", {"from 1 to 32", "found 33"}) == "");
  CHECK(refuses("n_inner", "0", {"from 1", "found 0"}) == "");
  for (const char* bad : {"0", "-1e-5", "1", "\"1e-5\"", "true", "NaN", "Infinity", "null"})
    CHECK(refuses("layer_norm_epsilon", bad, {"above 0 and below 1"}) == "");
  CHECK(refuses("activation_function", "3", {"expected a string", "found 3"}) == "");
  CHECK(refuses("tie_word_embeddings", "0", {"true or false", "found 0"}) == "");
  CHECK(refuses("scale_attn_weights", "false", {"expected true", "found false"}) == "");
  CHECK(refuses("scale_attn_by_inverse_layer_idx", "true", {"expected false", "found true"}) == "");
  CHECK(refuses("add_cross_attention", "true", {"expected false", "found true"}) == "");
  CHECK(refuses("architectures", "\"GPT2\"", {"array of strings"}) == "");
  CHECK(refuses("architectures", "[1]", {"strings", "found 1"}) == "");
  CHECK(refuses("id2label", "[\"a\"]", {"object"}) == "");
  CHECK(refuses("id2label", R"({"0":"a","2":"c"})", {"\"0\" to \"1\"", "no \"1\""}) == "");
  CHECK(refuses("id2label", R"({"1":"a","2":"c"})", {"\"0\" to \"1\"", "no \"0\""}) == "");
  CHECK(refuses("id2label", R"({"00":"a"})", {"no \"0\""}) == "");
  CHECK(refuses("id2label", R"({"0":1})", {"strings", "found 1"}) == "");
  CHECK(refuses("torch_dtype", "32", {"string", "found 32"}) == "");
  CHECK(refuses("quantization_config", "4", {"expected an object"}) == "");
  CHECK(refuses("quantization_config", R"({"quant_method":"gptq"})", {"quant_method", "bitsandbytes", "gptq"}) == "");
  CHECK(refuses("lowbit_quantization", "\"int8\"", {"expected an object"}) == "");
  CHECK(refuses("lowbit_quantization", R"({"method":"m","weight":"w"})", {"activation", "string", "nothing"}) == "");
  CHECK(refuses("lowbit_quantization", R"({"method":1,"weight":"w","activation":"a"})", {"method", "found 1"}) == "");
}

// ---- CSV
// --------------------------------------------------------------------------------------------------------------------------

namespace {
using Records = std::vector<std::vector<std::string>>;
Records records(std::string_view text) {
  io::CsvReader reader(text, "f.csv");
  Records result;
  std::vector<std::string> fields;
  while (reader.next(fields)) result.push_back(fields);
  return result;
}
}  // namespace

TEST_CASE("CSV by the letter of RFC 4180") {
  CHECK(records("").empty());
  CHECK(records("a") == Records{{"a"}});
  CHECK(records("a\n") == Records{{"a"}});
  CHECK(records("a,b\r\nc,d\r\n") == Records{{"a", "b"}, {"c", "d"}});
  CHECK(records("a,b\nc,d") == Records{{"a", "b"}, {"c", "d"}});
  CHECK(records(",\n") == Records{{"", ""}});
  CHECK(records("a,") == Records{{"a", ""}});
  CHECK(records("\n\n") == Records{{""}, {""}});
  CHECK(records("\"\"") == Records{{""}});
  CHECK(records("\"a,b\",\"c\"\"d\"\"\",\"\"\"\"\n") == Records{{"a,b", "c\"d\"", "\""}});
  CHECK(records("\"two\nlines\",\"and\r\nthree\r\"\r\nx") == Records{{"two\nlines", "and\r\nthree\r"}, {"x"}});
  CHECK(records("a\\b,\"c\\\"\n") == Records{{"a\\b", "c\\"}});
  CHECK(records(" a , \tb") == Records{{" a ", " \tb"}});
  CHECK(records("\xEF\xBB\xBF\"a\"\n\xEF\xBB\xBFx") == Records{{"a"}, {"\xEF\xBB\xBFx"}});
  CHECK(records(std::string_view("a\0b", 3)) == Records{{std::string("a\0b", 3)}});
  CHECK(records("\xC3\xA9,\xFF") == Records{{"\xC3\xA9", "\xFF"}});
}

TEST_CASE("CSV that breaks the rules is refused with its line") {
  const auto refuses = [](std::string_view text, std::initializer_list<std::string_view> words) {
    return unsaid<FormatError>([&] { records(text); }, words);
  };
  CHECK(refuses("a\n\"b", {"f.csv: line 2: ", "never closed"}) == "");
  CHECK(refuses("a\n\"b\"\"\nc\nd", {"f.csv: line 2: ", "never closed"}) == "");
  CHECK(refuses("\"", {"line 1", "never closed"}) == "");
  CHECK(refuses("\"a\nb\nc\"x,y", {"line 3", "after the closing quote", "\"x\""}) == "");
  CHECK(refuses("\"a\" ,b", {"line 1", "after the closing quote"}) == "");
  CHECK(refuses("\"a\"\r", {"line 1", "after the closing quote"}) == "");
  CHECK(refuses("a\nb\nc\"d\"", {"line 3", "a quote inside"}) == "");
  CHECK(refuses("a,b\rc", {"line 1", "carriage return"}) == "");
}

TEST_CASE("news rows") {
  const auto rows = io::parse_news("\"3\",\"T, \"\"q\"\"\",\"two\nlines\"\r\n1,\\,\n4,a,b", "n.csv");
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].label == 2);
  CHECK(rows[0].title == "T, \"q\"");
  CHECK(rows[0].description == "two\nlines");
  CHECK(rows[1].label == 0);
  CHECK(rows[1].title == "\\");
  CHECK(rows[1].description.empty());
  CHECK(rows[2].label == 3);
  CHECK(io::parse_news("", "n").empty());
  for (const char* header : {"Class Index", "class", "label", "\"LABEL\""}) {
    CAPTURE(header);
    CHECK(io::parse_news(std::string(header) + ",Title,Description\n2,a,b\n", "n").at(0).label == 1);
    CHECK(io::parse_news(std::string(header) + ",Title,Description", "n").empty());
  }
  CHECK(io::parse_news("7,a,b", "n", 7).at(0).label == 6);

  const auto refuses = [](std::string_view text, std::initializer_list<std::string_view> words) {
    return unsaid<FormatError>([&] { io::parse_news(text, "n.csv"); }, words);
  };
  CHECK(refuses("1,a\n", {"n.csv: line 1: ", "expected 3 fields", "found 2"}) == "");
  CHECK(refuses("1,a,b\n1,a,b,c\n", {"n.csv: line 2: ", "found 4"}) == "");
  std::size_t blank_lines = 0;
  const auto with_blanks = io::parse_news("\nclass,title,description\n1,a,b\n \t\n3,c,d\r\n\r\n\n", "n.csv", 4, &blank_lines);
  REQUIRE(with_blanks.size() == 2);
  CHECK(with_blanks[1].label == 2);
  CHECK(blank_lines == 4);
  // iconv finds the order of bytes by a mark, and drops it; where there is none it must be told.
  const std::string_view little = "n.csv: expected UTF-8, found little-endian UTF-16; iconv -f UTF-16",
                         big = "n.csv: expected UTF-8, found big-endian UTF-16; iconv -f UTF-16";
  CHECK(refuses({"\xFF\xFE\x31\0", 4}, {little, "UTF-16 -t UTF-8"}) == "");
  CHECK(refuses({"\xFE\xFF\0\x31", 4}, {big, "UTF-16 -t UTF-8"}) == "");
  CHECK(refuses({"\x31\0,\0", 4}, {little, "UTF-16LE -t UTF-8"}) == "");
  CHECK(refuses({"\0\x31\0,", 4}, {big, "UTF-16BE -t UTF-8"}) == "");
  CHECK(refuses({"\xFF\xFE\0\0\x31\0\0\0", 8}, {"found little-endian UTF-32; iconv -f UTF-32 -t"}) == "");
  CHECK(refuses({"\0\0\xFE\xFF", 4}, {"found big-endian UTF-32; iconv -f UTF-32 -t"}) == "");
  CHECK(refuses({"\x31\0\0\0", 4}, {"found little-endian UTF-32; iconv -f UTF-32LE -t"}) == "");
  CHECK(refuses({"\0\0\0\x31", 4}, {"found big-endian UTF-32; iconv -f UTF-32BE -t"}) == "");
  CHECK(refuses("\x1F\x8B\b", {"n.csv", "expected CSV", "gzip"}) == "");
  CHECK(refuses("1,a,b\r2,c,d\r", {"line 1", "carriage return"}) == "");
  CHECK(refuses("\"1\",\"a\",\"b\"\r\"2\"", {"line 1", "carriage return"}) == "");
  CHECK(refuses("1,\"x\ny\",b\n9,a,b\n", {"line 3", "1 to 4", "\"9\""}) == "");
  CHECK(refuses("kind,title,description\n", {"line 1", "1 to 4", "\"kind\""}) == "");
  CHECK(refuses("1,a,b\nclass,title,description\n", {"line 2", "\"class\""}) == "");
  CHECK(refuses("class,title\n", {"line 1", "expected 3 fields"}) == "");
  for (const char* bad : {"0", "5", "-1", "+1", " 1", "1 ", "1.0", "", "x", "99999999999999999999", "0x1"})
    CHECK(refuses(std::string(bad) + ",a,b", {"line 1", "expected a class from 1 to 4"}) == "");
  CHECK_THROWS_AS(io::parse_news("", "n", 0), InvalidArgument);
  const Folder folder;
  put_file(folder / "n.csv", "1,a,b\n");
  put_file(folder / "empty.csv", "");
  CHECK(io::read_news(folder / "n.csv").at(0).description == "b");
  CHECK(io::read_news(folder / "empty.csv").empty());
  CHECK_THROWS_AS(io::read_news(folder / "none.csv"), IoError);
}

TEST_CASE("what is written as CSV is read back") {
  CHECK(io::csv_escape("plain \\ text") == "plain \\ text");
  CHECK(io::csv_escape("a,b") == "\"a,b\"");
  CHECK(io::csv_escape("say \"x\"") == "\"say \"\"x\"\"\"");
  CHECK(io::csv_escape("a\nb") == "\"a\nb\"");
  CHECK(io::csv_escape("a\rb") == "\"a\rb\"");
  const Records rows{{"a", "", "b,c"}, {"\"", "\r\n", "\n"}, {"", "", ""}};
  std::string text;
  for (const auto& row : rows) text += io::csv_row(row);
  CHECK(text.substr(0, 10) == "a,,\"b,c\"\n\"");
  CHECK(records(text) == rows);
}

// ---- the real thing
// ---------------------------------------------------------------------------------------------------------------

TEST_CASE("AG News: 7,600 rows, 1,900 of each class") {
  const fs::path shared = lowbit::testing::shared_dir();
  if (shared.empty()) {
    WARN("LOWBIT_SHARED_DIR is not set: skipped");
    return;
  }
  const auto rows = io::read_news(shared / "data" / "ag_news_test.csv");
  std::array<int, 4> counts{};
  for (const io::NewsRow& row : rows) ++counts.at(static_cast<std::size_t>(row.label));
  CHECK(rows.size() == 7600);
  CHECK(counts == std::array<int, 4>{1900, 1900, 1900, 1900});
  // The labels that the reference results were computed with.
  const lowbit_test::GoldenFile golden((shared / "golden" / "reference_logits.safetensors").string());
  const auto labels = golden.get<std::int64_t>("small.labels", "I64");
  REQUIRE(labels.size() == rows.size());
  CHECK(std::equal(labels.begin(), labels.end(), rows.begin(),
                   [](std::int64_t label, const io::NewsRow& row) { return label == row.label; }));
  CHECK(rows[0].title == "Fears for T N pension after talks");
  CHECK(rows[1].description.starts_with("SPACE.com - TORONTO, Canada -- A second\\team of rocketeers"));
}

TEST_CASE("GPT-2 small: its folder opens", "[.full]") {
  const fs::path models = lowbit::testing::models_dir();
  if (models.empty()) {
    WARN("LOWBIT_MODELS_DIR is not set: skipped");
    return;
  }
  const fs::path folder = models / "gpt2-small-ag-news";
  const io::HuggingFaceConfig c = io::read_config(folder);
  CHECK(c.layers == 12);
  CHECK(c.vocab == 50257);
  CHECK(c.id2label == std::vector<std::string>{"World", "Sports", "Business", "Sci/Tech"});
  const io::ModelFiles files = io::open_folder_or_file(folder);
  std::size_t parameters = 0;
  for (const std::string& name : files.names()) parameters += files.at(name).elements();
  CHECK(parameters == 124'442'880);
  CHECK_NOTHROW(files.at("transformer.wte.weight").check_shape({c.vocab, c.width}));
}

}  // namespace io_test
