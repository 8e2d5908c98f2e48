// SPDX-License-Identifier: MIT
// CSV: records that are read, written again and read again are the same; rows of news have a class.
#include <vector>

#include "fuzz/fuzz.hpp"
#include "lowbit/io/csv.hpp"

namespace io = lowbit::io;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = lowbit_fuzz::text_of(data, size);
  lowbit_fuzz::reads("news.csv", [&] {
    for (const io::NewsRow& row : io::parse_news(text, "news.csv"))
      lowbit_fuzz::expect(row.label >= 0 && row.label < 4, "a class of four");
  });
  std::vector<std::vector<std::string>> records;
  std::vector<std::string> fields;
  const bool whole = lowbit_fuzz::reads("news.csv", [&] {
    io::CsvReader reader(text, "news.csv");
    for (std::size_t line = 0; reader.next(fields); line = reader.line()) {
      lowbit_fuzz::expect(reader.line() > line, "lines that rise");
      records.push_back(fields);
    }
  });
  if (!whole) return 0;
  std::string again = "first\n";  // a mark of byte order may be a field's
  for (const std::vector<std::string>& record : records) again += io::csv_row(record);
  io::CsvReader reader(again, "again");
  lowbit_fuzz::expect(reader.next(fields) && fields == std::vector<std::string>{"first"}, "the first record again");
  for (const std::vector<std::string>& record : records)
    lowbit_fuzz::expect(reader.next(fields) && fields == record, "the same record again");
  lowbit_fuzz::expect(!reader.next(fields), "no more records");
  return 0;
}
